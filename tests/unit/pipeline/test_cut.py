"""Cutting photos into shards: nobody lost, nobody twice, users together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger.cut import cut

PHOTOS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5)), unique_by=lambda photo: photo[0], max_size=60)


@given(photos=PHOTOS, size=st.integers(1, 12))
def test_every_photo_comes_out_once_in_shards_that_are_not_too_large(photos, size):
    shards = cut(photos, size)
    assert sorted(photo for shard in shards for photo in shard) == sorted(photo for photo, _ in photos)
    assert all(1 <= len(shard) <= size for shard in shards)


@given(photos=PHOTOS, size=st.integers(1, 12))
def test_a_user_shares_a_shard_with_others_only_for_the_rest(photos, size):
    """Of n photos of a user, n - n mod size lie in shards of this user's own; the rest lies in one shard, whole."""
    owner = dict(photos)
    shards = cut(photos, size)
    for user in set(owner.values()):
        mine = [[photo for photo in shard if owner[photo] == user] for shard in shards]
        rests = [len(part) for part in mine if 0 < len(part) < size]
        assert len(rests) <= 1
        assert sum(rests) == list(owner.values()).count(user) % size


@given(photos=PHOTOS.filter(lambda photos: len(photos) >= 2))
def test_halves_are_smaller_than_the_whole(photos):
    """Splitting a shard that kills its workers comes to an end."""
    half = (len(photos) + 1) // 2
    assert len(cut(photos, half)) >= 2


@pytest.mark.parametrize(
    ("photos", "size", "expected"),
    [
        ([], 3, []),
        ([(1, 7)], 3, [[1]]),
        ([(3, 7), (1, 7), (2, 7), (4, 7)], 2, [[1, 2], [3, 4]]),
        # Two users with a rest of one each share; a third rest does not fit any more.
        ([(1, 1), (2, 2), (3, 3)], 2, [[1, 2], [3]]),
        ([(1, 1), (2, 1), (3, 1), (4, 2)], 2, [[1, 2], [3, 4]]),
    ],
)
def test_examples(photos, size, expected):
    assert cut(photos, size) == expected
