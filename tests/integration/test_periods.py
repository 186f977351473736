"""Totals of periods, of moments, and of what was known then: the same as counted photo by photo."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta

from api_helpers import NOON, Library
from sqlalchemy import text

from pipeline.moments import Shot, numbered
from pipeline.profile import CategoryTotal
from pipeline.store import periods, queries
from pipeline.store.periods import Selection
from pipeline.store.session import Database

LABELS = ["pug", "tabby", "espresso", "sports car", "golden retriever"]
_ROWS = """
SELECT p.photo_id, p.taken_at, p.taken_from > 0 AS timed, p.created_at, r.nodes, r.masses, r.tags
FROM core.photo p JOIN core.photo_result r USING (photo_id) JOIN core.app_user u ON u.user_id = p.user_id
WHERE u.name = 'ada' AND p.gone_at IS NULL ORDER BY p.taken_at, p.photo_id"""
_COLUMNS = "SELECT node, position FROM core.taxonomy_category JOIN core.model USING (taxonomy_id)"


def counted(rows, column, unit) -> tuple[CategoryTotal, ...]:
    """The totals of these photos, one moment after the other."""
    shots = [Shot(photo_id=row.photo_id, taken_at=row.taken_at, timed=row.timed) for row in rows]
    numbers = list(numbered(shots)) if unit == "moments" else list(range(len(shots)))
    mass, photos = Counter(), Counter()
    for number in sorted(set(numbers)):
        burst = [row for row, own in zip(rows, numbers, strict=True) if own == number]
        summed, tagged = Counter(), Counter()
        for row in burst:
            summed.update(dict(zip(row.nodes, row.masses, strict=True)))
            tagged.update(row.tags)
        mass.update({node: total // len(burst) for node, total in summed.items()})
        photos.update(node for node, times in tagged.items() if 2 * times > len(burst))
    found = [CategoryTotal(column=column[node], photos=photos[node], mass=mass[node]) for node in mass if mass[node]]
    return tuple(sorted(found, key=lambda total: total.column))


def test_totals_are_those_of_the_photos_one_by_one(people: Library, database: Database) -> None:
    chance = random.Random(7)
    for _ in range(40):
        day, seconds = chance.choice([0, 1, 30, 31]), chance.choice([0, 1, 50, 100, 43_190, 43_201])
        certain = chance.choice([0.3, 0.6, 0.95])
        people.add("ada", chance.choice(LABELS), certain, day, seconds=seconds)
    people.add("bob", "pug")
    with database.transaction() as connection:
        connection.execute(text("UPDATE core.photo SET created_at = '2026-02-01' WHERE photo_id % 3 = 0"))
        connection.execute(text("UPDATE core.photo SET taken_from = 0 WHERE photo_id % 7 = 0"))
        column = dict(connection.execute(text(_COLUMNS)).all())
        rows = connection.execute(text(_ROWS)).all()
        user_id = queries.user_profile_totals(connection, people.model.model_id, "ada").user_id
        borders = [
            None,
            NOON + timedelta(hours=12),
            datetime(2026, 1, 31, tzinfo=UTC),
            datetime(2026, 2, 1, tzinfo=UTC),
        ]
        whole = {}
        for unit in ("photos", "moments"):
            found = []
            for since, until in zip(borders, [*borders[1:], None], strict=True):
                among = [r for r in rows if (not since or r.taken_at >= since) and (not until or r.taken_at < until)]
                selection = Selection(
                    model_id=people.model.model_id, user_id=user_id, since=since, until=until, unit=unit
                )
                found.append(periods.totals_of(connection, selection))
                assert found[-1] == counted(among, column, unit)
                assert periods.photos_in(connection, selection) == len(among)
            whole[unit] = periods.totals_of(
                connection, Selection(model_id=people.model.model_id, user_id=user_id, unit=unit)
            )
            sums = Counter(), Counter()
            for total in (total for part in found for total in part):
                sums[0][total.column] += total.mass
                sums[1][total.column] += total.photos
            assert {t.column: (t.mass, t.photos) for t in whole[unit]} == {c: (sums[0][c], sums[1][c]) for c in sums[0]}
        assert whole["photos"] == queries.user_totals(connection, people.model.model_id, user_id)
        photos, moments = ({t.column: t for t in whole[unit]} for unit in ("photos", "moments"))
        assert all(moments[c].photos <= photos[c].photos and moments[c].mass <= photos[c].mass for c in moments)
        then = Selection(
            model_id=people.model.model_id, user_id=user_id, as_of=datetime(2026, 3, 1, tzinfo=UTC), unit="moments"
        )
        known = [row for row in rows if row.created_at <= datetime(2026, 3, 1, tzinfo=UTC)]
        assert 0 < len(known) < len(rows)
        assert periods.totals_of(connection, then) == counted(known, column, "moments")
