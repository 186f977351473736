"""Repairs while work goes on: exact, repeatable, one at a time."""

import random
import threading

import pytest
from ledger_helpers import LABELS, ref, wait_for

from pipeline.errors import ConfigurationError
from pipeline.ledger import ending, redrive, repair
from pipeline.records import Code, ItemState, WorkState

MERGERS = 3


@pytest.fixture
def job(ledger):
    """A job of ninety photos in thirty shards, none of them claimed."""
    return ledger.list([ref(f"k{n:02d}", user=f"u{n % 7}") for n in range(90)], shard_photos=3)


def merging(ledger, leases, errors, seed):
    """A thread that merges these shards, photo by photo, with tags of several revisions."""

    def merge():
        chance = random.Random(seed)
        try:
            for lease in leases:
                for task in ledger.tasks(lease):
                    for revision in (1, 2):
                        ledger.merge([ledger.tagged(task, chance.choice(LABELS))], revision=revision)
                ledger.merge([], [lease])
        except Exception as exc:
            errors.append(exc)

    return threading.Thread(target=merge, name=f"merging-{seed}")


def all_merging(ledger, job_id, errors):
    leases = ledger.claim_all(job_id)
    return [merging(ledger, leases[n::MERGERS], errors, n) for n in range(MERGERS)]


#: Each breaks one row, so that it cannot lock others in another order than the merges do.
BROKEN_TOTALS = (
    "UPDATE core.user_category SET photos = photos + 5, mass = mass + 70000 WHERE (user_id, node) IN "
    "(SELECT user_id, node FROM core.user_category ORDER BY random() LIMIT 1)",
    "UPDATE core.category_total SET photos = photos + 3, mass = mass + 50000 WHERE (node, slot) IN "
    "(SELECT node, slot FROM core.category_total ORDER BY random() LIMIT 1)",
    "INSERT INTO core.user_category SELECT model_id, user_id, 30000, 2, 100 FROM core.user_category "
    "ORDER BY random() LIMIT 1 ON CONFLICT (model_id, user_id, node) DO UPDATE SET photos = 2",
)


def test_repairing_totals_while_others_merge_loses_and_doubles_nothing(ledger, job):
    """Merges begin before, go on during and end after each repair; in between the totals are broken anew."""
    errors = []
    threads = all_merging(ledger, job, errors)
    for thread in threads:
        thread.start()
    rounds = repaired = 0
    while any(thread.is_alive() for thread in threads) or rounds < 6:
        ledger.execute(BROKEN_TOTALS[rounds % 3])
        repaired += ledger.database.run(repair.totals).changed.get("rows of totals", 0)
        rounds += 1
    for thread in threads:
        thread.join()
    assert errors == []
    assert repaired >= rounds // 3  # some found no row to break, or one that a merge had just changed
    ledger.check()
    assert ledger.job(job).count(ItemState.SUCCEEDED) == 90
    assert ledger.database.run(repair.totals).changed == {}


def test_a_merge_that_has_changed_results_and_waits_with_its_totals_is_counted_once(ledger, job):
    """The worst moment: a merge holds uncommitted results when the repair reads, and adds its totals after it."""
    done, open_ = ledger.claim_all(job)[:2]
    ledger.merge([ledger.tagged(task, "dog") for task in ledger.tasks(done)], [done])
    ledger.execute(BROKEN_TOTALS[0])
    task = ledger.tasks(open_)[0]
    with ledger.database.engine.begin() as other:  # keeps the merge from its totals, not the repair from reading
        other.exec_driver_sql("LOCK TABLE core.category_total IN SHARE MODE")
        merged = threading.Thread(target=lambda: ledger.merge([ledger.tagged(task, "dog")]))
        merged.start()
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'core.category_total'::regclass"
        wait_for(lambda: ledger.one(waits))
        repaired = threading.Thread(target=lambda: ledger.database.run(repair.totals))
        repaired.start()
        wait_for(lambda: ledger.one(waits) + ledger.one("SELECT count(*) FROM pg_locks WHERE NOT granted") >= 2)
    merged.join()
    repaired.join()
    ledger.check()
    assert ledger.photos_with("dog")[0] == 4


def test_a_repair_of_totals_keeps_only_those_waiting_whose_totals_were_wrong(ledger, job):
    ledger.tag_all(job, "dog")
    ledger.execute("UPDATE core.user_category SET mass = 0 WHERE user_id = (SELECT min(user_id) FROM core.app_user)")
    other = ledger.one("SELECT name FROM core.app_user ORDER BY user_id DESC LIMIT 1")
    again = ledger.list([ref("new", user=other)], whole=False)
    with ledger.database.engine.begin() as repairing:
        assert repair.totals(repairing).changed
        ledger.tag_all(again, "cat")  # while the repair holds all that it will ever hold
    ledger.check()


def test_two_repairs_at_once_are_refused(ledger, job):
    with ledger.database.engine.begin() as first:
        repair.totals(first)
        with pytest.raises(ConfigurationError, match="Another repair"):
            ledger.database.run(repair.counts)
    assert ledger.database.run(repair.counts).changed == {}


def test_repairing_counts_while_others_merge(ledger, job):
    errors = []
    threads = all_merging(ledger, job, errors)
    for thread in threads:
        thread.start()
    repairs = 0
    while any(thread.is_alive() for thread in threads) or repairs < 3:
        ledger.execute("UPDATE core.job_count SET photos = photos + 4 WHERE state = 2")
        ledger.execute("UPDATE core.list_range SET listed = listed + 7")
        ledger.database.run(repair.counts)
        repairs += 1
    for thread in threads:
        thread.join()
    assert errors == []
    counts = ledger.job(job).counts
    assert sum(n for (state, _), n in counts.items() if state is ItemState.SUCCEEDED) == 90
    assert counts[ItemState.SKIPPED_UNCHANGED, Code.NONE] == 7 * repairs  # what was listed cannot be recounted
    ledger.check()


def test_counts_that_are_more_than_was_listed(ledger, job):
    ledger.execute("UPDATE core.list_range SET listed = 80")
    assert ledger.database.run(repair.counts).changed == {"sums of jobs": 1}
    assert ledger.job(job).total == 90
    ledger.check()


def test_photos_that_nobody_would_come_for_get_shards_of_a_size(ledger, job):
    ledger.execute("UPDATE core.shard SET state = 3")
    assert ledger.database.run(lambda c: repair.items(c, 32)).changed == {"photos brought back": 90}
    sizes = [row.photos for row in ledger.shards(job, WorkState.PENDING)]
    assert (sum(sizes), max(sizes) <= 32) == (90, True)
    assert ledger.database.run(lambda c: repair.items(c, 32)).changed == {}
    ledger.check()


def test_a_photo_that_waits_for_no_time_is_tried_again(ledger, job):
    ledger.execute("UPDATE core.job_item SET state = 1, shard_id = NULL WHERE photo_id % 9 = 0")
    ledger.execute("UPDATE core.job_count SET photos = photos - 10")
    ledger.execute("INSERT INTO core.job_count SELECT job_id, 1, 0, 10 FROM core.job")
    assert ledger.database.run(lambda c: repair.items(c, 32)).changed == {"photos brought back": 10}
    assert ledger.database.run(lambda c: redrive.gather_retries(c, 32)) == 10
    ledger.check()


def test_nothing_is_repaired_in_a_ledger_that_is_well(ledger, job):
    ledger.tag_all(job, "dog")
    ledger.database.run(ending.finish_jobs)
    for work in (repair.totals, repair.counts, repair.leases, lambda c: repair.items(c, 32), repair.results):
        assert ledger.database.run(work).changed == {}
    ledger.check()
