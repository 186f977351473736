"""The newest photos of a category: every way of finding them gives what sorting all of them would give."""

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from ledger_helpers import DAY, LABELS, ref
from sqlalchemy.exc import DBAPIError

from pipeline.ledger import repair
from pipeline.ledger.audit import findings
from pipeline.ledger.erase import fence
from pipeline.records import TakenFrom

#: The constants `few` and `far` of core.newest: as shipped; nothing is walked by; nothing is read whole, a few photos
#: are walked by, or none.
WAYS = [(700, 8000), (700, 0), (0, 4), (0, 0)]

# Ties, neighbours across midnight and the turn of a month, and what a camera without a clock writes.
TIMES = [
    timedelta(seconds=seconds) + timedelta(days=days)
    for days in (0, 1, 30, 31, 400, 3000, -18_000)
    for seconds in (0, 1, 86_399)
]
PHOTOS = st.lists(
    st.tuples(st.sampled_from(TIMES), st.sets(st.sampled_from(LABELS), max_size=2), st.sampled_from(["ann", "ben"])),
    min_size=1,
    max_size=14,
)
CHANGES = st.sampled_from(["nothing", "moved", "gone", "fenced", "changed", "undated"])


@pytest.fixture(params=WAYS, ids=str)
def way(request, ledger):
    """The function with other constants, so that a few photos go ways that are meant for millions."""
    few, far = request.param
    shipped = ledger.one("SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'newest'")
    other, found = re.subn(r"few CONSTANT integer := \d+", f"few CONSTANT integer := {few}", shipped)
    other, more = re.subn(r"far CONSTANT integer := \d+", f"far CONSTANT integer := {far}", other)
    assert (found, more) == (1, 1)
    define(ledger, other)
    yield ledger
    define(ledger, shipped)


def define(ledger, statement):
    with ledger.database.transaction() as connection:
        connection.exec_driver_sql(statement.replace("%", "%%"))


@settings(
    max_examples=12, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(photos=PHOTOS, change=CHANGES, most=st.integers(1, 6))
def test_it_is_what_sorting_everything_gives(way, photos, change, most):
    fill(way, photos)
    alter(way, photos, change)
    for words in [["dog"], ["animal"], ["entity"], ["dog", "cat"], ["thing", "dog"]]:
        whole = sorted_photos(way, words)
        assert pages(way, words, most) == whole, words
        if len(words) == 1:
            assert way.all("SELECT * FROM tags.newest_photos(:word, :most)", word=words[0], most=most) == whole[:most]


def listed(photos, **options):
    return [at_time(DAY + at, f"{n:03d}.jpg", user=user, **options) for n, (at, _, user) in enumerate(photos)]


def at_time(moment, *names, **options):
    return replace(ref(*names, **options), modified_at=moment)


def fill(ledger, photos):
    """Listed, each with its time; tagged, half of them with a time of their own."""
    ledger.empty()
    job_id = ledger.list(listed(photos))
    for lease in ledger.claim_all(job_id):
        results = []
        for task in ledger.tasks(lease):
            at, tags, _ = photos[int(task.key[:3])]
            own = DAY - at if task.photo_id % 2 else None
            results.append(ledger.tagged(task, *sorted(tags), taken_at=own))
        ledger.merge(results, [lease])


def alter(ledger, photos, change):
    if change == "moved":
        ledger.list([ref("000.jpg", user="cem")], whole=False)
    elif change == "gone":
        ledger.list(listed(photos[1:] or photos), allow_mass_delete=True)
    elif change == "fenced":
        ledger.database.run(lambda c: fence(c, photos[0][2]))
    elif change == "changed":
        ledger.list(listed([(timedelta(days=7), *rest) for _, *rest in photos], etag="other"), whole=False)
    elif change == "undated":
        ledger.execute("UPDATE core.photo_result SET taken_at = NULL WHERE photo_id % 3 = 0")


def sorted_photos(ledger, words):
    """By core.photo alone, from the newest; in the small taxonomy every photo of a category carries its tag."""
    nodes = [ledger.node[word] for word in words if word != "entity"]
    return ledger.all(
        """SELECT photo_id, p.taken_at FROM core.photo p JOIN core.photo_result r USING (photo_id)
           JOIN core.app_user u ON u.user_id = p.user_id
           WHERE r.tags @> CAST(:nodes AS smallint[]) AND r.tags <> '{}' AND u.deleted_at IS NULL
           ORDER BY p.taken_at DESC, photo_id DESC""",
        nodes=nodes,
    )


def pages(ledger, words, most):
    """All of them, page by page."""
    found, last = [], (None, None)
    while page := ledger.all(
        "SELECT * FROM tags.newest_with_all(:words, :most, CAST(:at AS timestamptz), CAST(:id AS bigint))",
        words=words,
        most=most,
        at=last[1],
        id=last[0],
    ):
        assert len(page) <= most
        found += page
        last = page[-1]
    return found


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("tags.newest_photos('dog', 0)", "0 photos"),
        ("tags.newest_photos('dog', NULL)", "NULL photos"),
        ("tags.newest_with_all('{}')", "No category"),
        ("tags.newest_photos('unicorn')", "no category 'unicorn'"),
    ],
)
def test_wrong_use_is_refused_in_a_sentence(ledger, call, words):
    with pytest.raises(DBAPIError, match=words):
        ledger.all(f"SELECT * FROM {call}")


def test_an_analyst_may_ask(ledger, analyst):
    fill(ledger, [(timedelta(0), {"dog"}, "ann"), (timedelta(1), {"cat"}, "ben")])
    assert analyst.all("SELECT * FROM tags.newest_photos('dog')") == sorted_photos(ledger, ["dog"])
    children = analyst.all("SELECT name, photos, mass FROM tags.top_children('animal')")
    assert [tuple(row) for row in children] == [("dog", 1, Decimal("0.9")), ("cat", 1, Decimal("0.9"))]
    assert len(analyst.all("SELECT * FROM tags.top_children('animal', 1)")) == 1


def test_a_time_that_another_model_finds_out_is_told_to_all(ledger):
    (lease,) = ledger.claim_all(ledger.list([ref("ann/1.jpg")]))
    (task,) = ledger.tasks(lease)
    ledger.merge([ledger.tagged(task, "dog")], [lease])
    ledger.merge([ledger.tagged(task, "dog", taken_at=DAY)], model=ledger.register("other"))
    rows = ledger.all("SELECT model_id, taken_at FROM core.photo_result ORDER BY 1")
    assert [row.taken_at for row in rows] == [DAY, DAY]
    assert ledger.one("SELECT taken_from FROM core.photo") == TakenFrom.EXIF


def test_a_time_is_told_to_a_result_that_stays(ledger):
    """What brought it lost: its decision is older."""
    (lease,) = ledger.claim_all(ledger.list([ref("ann/1.jpg")]))
    (task,) = ledger.tasks(lease)
    ledger.merge([ledger.tagged(task, "dog")], [lease], revision=2)
    ledger.merge([ledger.tagged(task, "cat", taken_at=DAY)], revision=1)
    assert ledger.one("SELECT taken_at FROM core.photo_result") == DAY


def test_results_without_times_are_found_and_repaired_a_few_at_once(ledger):
    fill(ledger, [(at, {"dog"}, "ann") for at in TIMES[:7]])
    ledger.execute("UPDATE core.photo_result SET taken_at = NULL WHERE photo_id % 2 = 0")
    ledger.execute("UPDATE core.photo_result SET taken_at = 'epoch' WHERE photo_id % 2 = 1")

    def told():
        with ledger.database.transaction() as connection:
            return [finding.count for finding in findings(connection) if finding.audit == "times"]

    assert told() == [7]
    batches = []
    while done := ledger.database.run(lambda c: repair.times(c, 2)).changed:
        batches.append(done["times of results"])
    assert sum(batches) == 7
    assert max(batches) == 2
    assert told() == []
