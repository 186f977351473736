"""The storm itself: its plan and its photos follow from the seed, and its judge finds what is wrong."""

import json
from itertools import chain, pairwise
from pathlib import Path

import pytest
from sqlalchemy import text

from pipeline.records import Code
from tests.chaos.afflictions import KINDS
from tests.chaos.corpus import DAMAGES, Corpus, in_waves
from tests.chaos.nemesis import FULL_MINUTES, plan
from tests.chaos.report import GOALS, add_up
from tests.chaos.storm import Wish
from tests.chaos.weather import weather

KILLS = ("kill -9 annotate", "kill -9 decode", "kill -9 ingest", "kill -9 redriver", "kill -9 supervisor")


def test_a_plan_follows_from_its_seed():
    assert plan(1, 2.0) == plan(1, 2.0)
    assert plan(1, 2.0) != plan(2, 2.0)


def test_a_full_plan_reaches_the_goals_with_room_for_faults_that_meet_nobody():
    names = [appointment.affliction.name for appointment in plan(1, FULL_MINUTES)]
    assert set(names) == {kind.name for kind in KINDS}
    assert sum(name.startswith(KILLS) for name in names) >= 0.97 * GOALS["kills of workers and children"]
    assert sum("Redis killed" in name or "FLUSHALL" in name for name in names) >= 1.2 * GOALS["Redis losses"]
    assert sum("Postgres imm" in n or "postmaster" in n or "backend" in n for n in names) > GOALS["Postgres crashes"]
    assert names.count("COMMIT reply lost (merges)") * 4 >= GOALS["COMMIT replies lost"]


def test_faults_come_every_few_seconds():
    moments = [appointment.after for appointment in plan(1, FULL_MINUTES)]
    gaps = [after - before for before, after in pairwise(moments)]
    assert moments[-1] == pytest.approx(FULL_MINUTES * 60)
    assert max(gaps) <= 5.0


def test_photos_follow_from_their_seed_and_differ_from_each_other():
    corpus, same, other = (Corpus.of(seed, 300, 20) for seed in (1, 1, 2))
    bodies = [corpus.body(item) for item in corpus.items]
    assert bodies == [same.body(item) for item in same.items]
    assert bodies[0] != other.body(other.items[0])
    assert bodies[0] != corpus.body(corpus.items[0], revision=2)
    sound = [body for item, body in zip(corpus.items, bodies, strict=True) if item.sound]
    assert len(set(sound)) == len(sound)


def test_every_kind_of_damage_comes_and_waves_hold_everything():
    corpus = Corpus.of(1, 20_000, 200)
    assert {item.malformed for item in corpus.items} == {None, *DAMAGES}
    assert tuple(chain.from_iterable(in_waves(corpus.items, 40))) == corpus.items
    assert 300 <= sum(not item.sound for item in corpus.items) <= 500


def test_kept_runs_add_up(tmp_path):
    path = tmp_path / "runs.jsonl"
    runs = [{"seed": n, "summary": {"Redis losses": 30}, "broken": {}} for n in (1, 2)]
    path.write_text("".join(json.dumps(run) + "\n" for run in runs))
    total = add_up(path)
    assert (total.runs, total.clean, total.seeds) == (2, 2, (1, 2))
    assert total.bound("Redis losses") == 3 / 60
    path.write_text(json.dumps({**runs[0], "broken": {"I1 lost": 1}}) + "\n")
    assert add_up(path).bound("Redis losses") is None


def test_the_page_says_what_the_kept_runs_come_to():
    page = Path(__file__).parents[2] / "docs" / "reliability.md"
    assert str(add_up()) in page.read_text(encoding="utf-8"), "paste what `python -m tests.chaos --total` prints"


SABOTAGE = {
    "I1 lost": """DELETE FROM core.photo_result WHERE photo_id = (SELECT min(photo_id) FROM core.photo_result)""",
    "I2 unexpected": """UPDATE core.photo SET key = 'photos/nobody/0.jpg'
                        WHERE photo_id = (SELECT max(photo_id) FROM core.photo_result)""",
    "I3 miscounted": """UPDATE core.user_category SET photos = photos + 1
                        WHERE (model_id, user_id, node) = (SELECT model_id, user_id, node FROM core.user_category
                                                           WHERE photos > 0 LIMIT 1)""",
    # What two photos are is exchanged: nothing is missing, and every count of the whole is as before.
    "I4 mis-tagged": f"""
        UPDATE core.photo_result r SET (headline, nodes, masses, tags, sha256)
             = (other.headline, other.nodes, other.masses, other.tags, other.sha256)
        FROM (SELECT model_id, photo_id, user_id, lead(photo_id) OVER w AS next, row_number() OVER w AS n
              FROM core.photo_result WHERE outcome = {Code.TAGGED} AND model_id = 1
              WINDOW w AS (PARTITION BY user_id ORDER BY photo_id)) pair
        JOIN core.photo_result other ON other.model_id = 1
        WHERE r.model_id = 1 AND pair.n = 1 AND pair.next IS NOT NULL AND pair.user_id = (
                  SELECT min(user_id) FROM core.photo_result WHERE outcome = {Code.TAGGED})
          AND (r.photo_id, other.photo_id) IN ((pair.photo_id, pair.next), (pair.next, pair.photo_id))""",
    "I9 false poison": f"""UPDATE core.photo_result SET outcome = {Code.QUARANTINED}
                           WHERE photo_id = (SELECT min(photo_id) FROM core.photo_result
                                             WHERE outcome = {Code.TAGGED}) AND model_id = 1""",
}


@pytest.mark.chaos
def test_a_small_storm_breaks_nothing_and_what_is_broken_is_found(tmp_path):
    with weather(Wish(seed=7, minutes=1.0, photos=600, users=20), tmp_path) as passed:
        report = passed.report()
        assert [(finding.name, finding.count, finding.offenders) for finding in report.broken] == []
        assert report.summary["kills of workers and children"] > 0
        assert report.summary["S3 faults"] > 0
        database = passed.storm.site.database
        for name, damage in SABOTAGE.items():
            with database.transaction() as connection:
                assert connection.execute(text(damage)).rowcount > 0
            assert name in {finding.name for finding in passed.judge.findings() if finding.count}
