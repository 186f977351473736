import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline.moments import GAP, Shot, numbered

MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC)
#: Seconds from midnight, close enough together for bursts, on both sides of it.
TIMES = st.lists(st.tuples(st.integers(-600, 600), st.booleans()), max_size=30)


def shots(taken: list[tuple[int, bool]]) -> list[Shot]:
    ordered = sorted(enumerate(taken), key=lambda each: (each[1][0], each[0]))
    return [
        Shot(photo_id=number, taken_at=MIDNIGHT + timedelta(seconds=seconds), timed=timed)
        for number, (seconds, timed) in ordered
    ]


def moments(taken: list[Shot]) -> list[list[Shot]]:
    found: dict[int, list[Shot]] = {}
    for shot, number in zip(taken, numbered(taken), strict=True):
        found.setdefault(number, []).append(shot)
    assert list(found) == list(range(len(found)))
    return list(found.values())


@given(TIMES)
def test_moments_partition_the_photos_by_their_pauses(taken: list[tuple[int, bool]]) -> None:
    ordered = shots(taken)
    found = moments(ordered)
    assert [shot for moment in found for shot in moment] == ordered
    for moment in found:
        pauses = [b.taken_at - a.taken_at for a, b in itertools.pairwise(moment)]
        assert all(pause <= GAP for pause in pauses)
        assert len({shot.taken_at.date() for shot in moment}) == 1
        assert len(moment) == 1 or all(shot.timed for shot in moment)
    for before, after in itertools.pairwise(found):
        a, b = before[-1], after[0]
        near = b.taken_at - a.taken_at <= GAP and a.taken_at.date() == b.taken_at.date()
        assert not (near and a.timed and b.timed)


@given(TIMES)
def test_days_add_up_to_the_whole(taken: list[tuple[int, bool]]) -> None:
    ordered = shots(taken)
    days = [[shot for shot in ordered if (shot.taken_at < MIDNIGHT) == before] for before in (True, False)]
    assert moments(days[0]) + moments(days[1]) == moments(ordered)


def test_a_day_is_one_of_utc() -> None:
    west = datetime(2026, 1, 1, 19, 0, 20, tzinfo=UTC).astimezone()
    late = Shot(photo_id=1, taken_at=MIDNIGHT - timedelta(seconds=1), timed=True)
    early = Shot(photo_id=2, taken_at=MIDNIGHT, timed=True)
    assert list(numbered([late, early])) == [0, 1]
    again = Shot(photo_id=4, taken_at=west + timedelta(seconds=60), timed=True)
    assert list(numbered([Shot(photo_id=3, taken_at=west, timed=True), again])) == [0, 0]
