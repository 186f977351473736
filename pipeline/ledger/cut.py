"""How listed photos become shards: at most so many photos each, one user's where possible, small users together."""

from collections.abc import Iterable, Sequence
from itertools import groupby

Photo = tuple[int, int]  # (photo id, user id)


def cut(photos: Sequence[Photo], size: int) -> list[list[int]]:
    """Cut `photos` into shards of at most `size` photo ids, in order of user.

    A user with `size` photos or more fills shards alone; what remains of each user is packed, whole, into common
    shards. Every photo comes out exactly once.
    """
    shards: list[list[int]] = []
    common: list[int] = []
    for ids in _by_user(photos):
        whole = len(ids) - len(ids) % size
        shards.extend(ids[i : i + size] for i in range(0, whole, size))
        rest = ids[whole:]
        if len(common) + len(rest) > size:
            shards.append(common)
            common = []
        common.extend(rest)
    return [*shards, common] if common else shards


def _by_user(photos: Iterable[Photo]) -> list[list[int]]:
    ordered = sorted(photos, key=lambda photo: (photo[1], photo[0]))
    return [[photo_id for photo_id, _ in group] for _, group in groupby(ordered, key=lambda photo: photo[1])]
