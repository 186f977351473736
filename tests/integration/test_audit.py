"""Audits and repairs: each thing broken once, found by its name, repaired by the command that the finding gives.

Nothing is found in a ledger that is well, however much work is under way in it.
"""

import threading

import pytest
from ledger_helpers import make, ref, wait_for, waiting
from test_totals import Fire
from typer.testing import CliRunner

from pictograph.cli.repair import repair_group
from pipeline.ledger import audit, control, ending, publish, redrive, roster
from pipeline.ledger.audit import AUDITS, QUIET, Patience
from pipeline.ledger.erase import erase_some, fence
from pipeline.ledger.erase import finish as finish_erasure
from pipeline.records import ItemState, JobState

PATIENCE = Patience(lease_seconds=3.0, tick_seconds=0.2, stale_seconds=3.0)
REFS = [ref(f"k{n:02d}", user=("ann", "bob", "cat")[n % 3]) for n in range(12)]


@pytest.fixture
def found(ledger):
    """What the audits find: by name, the finding."""

    def look(**options):
        with ledger.database.transaction() as connection:
            findings = audit.findings(connection, PATIENCE, **options)
        return {finding.audit: finding for finding in findings}

    return look


@pytest.fixture
def run_repair(ledger, ledger_settings, monkeypatch):
    """Runs the command that a finding gives, and returns what it prints."""
    for name, value in ledger_settings.environment().items():
        monkeypatch.setenv(name, value)

    def run(finding):
        program, group, *arguments = finding.repair.split()
        assert (program, group) == ("pictograph", "repair")
        done = CliRunner().invoke(repair_group, arguments)
        assert done.exit_code == 0, done.output
        return done.output

    return run


@pytest.fixture
def job(ledger):
    """A job of twelve photos in four shards, all tagged and ended."""
    job_id = ledger.list(REFS, shard_photos=3)
    ledger.tag_all(job_id, "dog", "cup")
    ledger.database.run(ending.finish_jobs)
    return job_id


@pytest.fixture
def half(ledger):
    """A running job of which two shards of four are done and two are pending."""
    job_id = ledger.list(REFS, shard_photos=3)
    for row in ledger.shards(job_id)[:2]:
        lease = ledger.claim(row.shard_id)
        ledger.merge([ledger.tagged(task, "dog") for task in ledger.tasks(lease)], [lease])
    return job_id


def finish(ledger, job_id):
    """Bring a job to its end, as a redriver and a worker would."""
    for _ in range(5):
        ledger.database.run(lambda c: redrive.gather_retries(c, 512))
        ledger.tag_all(job_id, "dog")
        if ledger.database.run(ending.finish_jobs) or ledger.job(job_id).state.ended:
            return


#: By audit: statements that break a ledger in which one job has ended (`job`).
OF_ENDED = {
    "user totals": ["UPDATE core.user_category SET photos = photos + 1 WHERE node = :dog AND user_id = :ann"],
    "category totals": ["DELETE FROM core.category_total WHERE node = :dog"],
    "job counts": ["UPDATE core.job_count SET photos = photos - 1 WHERE state = 2"],
    "job sums": ["UPDATE core.list_range SET listed = listed + 2"],
    "ended jobs": ["UPDATE core.shard SET state = 0 WHERE shard_id = (SELECT min(shard_id) FROM core.shard)"],
    "lost photos": ["UPDATE core.photo SET content_rev = 2 WHERE key = 'k03'"],
    "gone photos": ["UPDATE core.photo SET gone_at = now() WHERE key = 'k04'"],
    "wrong owners": ["UPDATE core.photo SET user_id = :bob WHERE key = 'k00'"],
    "erased users": ["UPDATE core.app_user SET deleted_at = now() WHERE user_id = :ann"],
    "masses": ["UPDATE core.photo_result SET masses[2] = 1 WHERE photo_id = (SELECT min(photo_id) FROM core.photo)"],
}

#: The same for one that is half done (`half`).
OF_RUNNING = {
    "stray photos": ["UPDATE core.shard SET state = 3 WHERE shard_id = (SELECT max(shard_id) FROM core.shard)"],
    "split shards": ["UPDATE core.shard SET state = 4 WHERE shard_id = (SELECT max(shard_id) FROM core.shard)"],
    "late messages": [
        "UPDATE core.shard SET state = 1, published_at = now() - interval '1 hour' "
        "WHERE shard_id = (SELECT max(shard_id) FROM core.shard)"
    ],
    "orphan leases": [
        "UPDATE core.shard SET state = 2, lease_owner = 'nobody', lease_until = now() + interval '1 day' "
        "WHERE shard_id = (SELECT max(shard_id) FROM core.shard)"
    ],
    "late leases": [
        "UPDATE core.shard SET state = 2, lease_owner = 'dead', lease_until = pg_postmaster_start_time() "
        "WHERE shard_id = (SELECT max(shard_id) FROM core.shard)"
    ],
}


def break_it(ledger, statements):
    users = {name: ledger.one("SELECT user_id FROM core.app_user WHERE name = :n", n=name) for name in ("ann", "bob")}
    for statement in statements:
        values = {name: value for name, value in {**users, **ledger.node}.items() if f":{name}" in statement}
        ledger.execute(statement, **values)


def wait_for_the_server_to_be_old(ledger):
    """What happened before it was started is not reported: nobody could do anything then."""
    old = "SELECT now() - pg_postmaster_start_time() > interval '12 s'"
    wait_for(lambda: ledger.one(old))


@pytest.mark.parametrize("name", OF_ENDED)
def test_what_is_broken_after_a_job_is_found_and_repaired(ledger, found, run_repair, job, name):
    assert found(quiet=True) == {}
    break_it(ledger, OF_ENDED[name])
    finding = found()[name]
    assert finding.count > 0
    assert finding.ids
    assert finding.repair in str(finding)
    assert "Nothing was wrong" not in run_repair(finding)
    for other in found().values():  # what is behind it: totals of results that had to go
        run_repair(other)
    finish(ledger, job)
    assert found(quiet=True) == {}
    assert "Nothing was wrong" in run_repair(finding)
    if name != "erased users":
        ledger.check()


@pytest.mark.parametrize("name", OF_RUNNING)
def test_what_is_broken_in_a_running_job_is_found_and_repaired(ledger, found, run_repair, half, name):
    assert found() == {}
    wait_for_the_server_to_be_old(ledger)
    break_it(ledger, OF_RUNNING[name])
    assert found().keys() == {name}
    assert "Nothing was wrong" not in run_repair(found()[name])
    assert found() == {}
    finish(ledger, half)
    assert ledger.job(half).count(ItemState.SUCCEEDED) == len(REFS)
    assert found(quiet=True) == {}
    ledger.check()


def test_a_job_of_which_nothing_is_left_is_found_when_it_lasts_and_ended(ledger, found, run_repair, job):
    ledger.execute("UPDATE core.job SET state = 1, finished_at = NULL")
    assert found() == {}  # a redriver may be about to end it
    assert found(quiet=True).keys() == {"endless jobs"}
    (finding,) = audit.lasting(ledger.database, PATIENCE)
    assert (finding.audit, finding.count, finding.ids) == ("endless jobs", 1, (f"job {job}",))
    run_repair(finding)
    assert ledger.job(job).state is JobState.SUCCEEDED
    assert audit.lasting(ledger.database, PATIENCE) == ()


def test_a_job_whose_listing_was_broken_off_is_ended_as_failed(ledger, found, run_repair, job):
    ledger.execute("UPDATE core.job SET state = 1, finished_at = NULL")
    ledger.execute("UPDATE core.list_range SET state = 5")
    run_repair(found(quiet=True)["endless jobs"])
    assert ledger.job(job).state is JobState.FAILED
    assert "run the job again" in ledger.job(job).error


def test_an_idle_worker_beside_work_is_found_when_it_lasts(ledger, half):
    ledger.database.run(lambda c: roster.note_worker(c, "idle", "annotate.small", progressed=False))
    (finding,) = audit.lasting(ledger.database, PATIENCE)
    assert (finding.audit, finding.count, finding.repair) == ("idle workers", 2, "pictograph redriver")
    assert ledger.database.run(publish.publishable)  # as a redriver does
    assert audit.lasting(ledger.database, PATIENCE) == ()


def test_work_that_moves_between_two_looks_is_nothing(ledger, half):
    ledger.database.run(lambda c: roster.note_worker(c, "idle", "annotate.small", progressed=False))
    claimed = threading.Timer(PATIENCE.settling_seconds / 4, lambda: ledger.claim_all(half, owner="idle"))
    claimed.start()
    try:
        assert audit.lasting(ledger.database, PATIENCE) == ()
    finally:
        claimed.join()


def test_two_results_of_a_photo_are_found_and_the_better_one_stays(ledger, found, run_repair, job):
    try:
        ledger.execute("ALTER TABLE core.photo_result DROP CONSTRAINT photo_result_pkey")
        ledger.execute(
            "INSERT INTO core.photo_result "
            "SELECT model_id, photo_id, user_id, content_rev, 0, 10, NULL, '{}', '{}', '{}', NULL, taken_at "
            "FROM core.photo_result WHERE photo_id = (SELECT min(photo_id) FROM core.photo)"
        )
        assert found().keys() == {"double results"}
        run_repair(found()["double results"])
        assert found(quiet=True) == {}
        assert ledger.one("SELECT count(*) FROM core.photo_result WHERE decision_rev = 1") == len(REFS)
    finally:
        make(ledger.database)


def test_where_nothing_runs_any_lease_is_wrong(ledger, found, run_repair, half):
    lease, other = ledger.claim_all(half, seconds=PATIENCE.lease_seconds)
    assert found() == {}
    finding = found(quiet=True)["open leases"]
    assert finding.ids == (f"shard {lease.work_id}", f"shard {other.work_id}")
    assert run_repair(finding) == "Repaired: 2 other leases.\n"
    assert found(quiet=True) == {}
    assert len(ledger.claim_all(half)) == 2  # at once, and nobody has died
    assert all(row.deaths == 0 for row in ledger.shards(half))


def test_an_erasure_is_found_only_if_it_is_said_to_be_complete(ledger, found, run_repair, job):
    user = ledger.database.run(lambda c: fence(c, "ann"))
    assert found(quiet=True) == {}  # under way
    ledger.execute("UPDATE core.erasure SET finished_at = now()")
    assert found().keys() == {"erased users"}
    run_repair(found()["erased users"])
    assert ledger.one("SELECT count(*) FROM core.photo WHERE user_id = :user", user=user) == 0
    assert ledger.database.run(lambda c: finish_erasure(c, user)).left.keys()
    assert found(quiet=True) == {}


def test_photos_of_an_erased_user_are_not_lost(ledger, found, job):
    user = ledger.database.run(lambda c: fence(c, "ann"))
    assert ledger.database.run(lambda c: erase_some(c, user, 2)) == 2
    assert found(quiet=True) == {}


def test_each_state_of_a_running_job_is_well(ledger, found):
    ledger.submit()
    assert found(quiet=True) == {}  # nobody has begun
    job_id = ledger.list([*REFS, ref("k00", etag="e2")], shard_photos=3)
    first, second, *_ = ledger.claim_all(job_id, seconds=PATIENCE.lease_seconds)
    tasks = ledger.tasks(first)
    ledger.merge([waiting(tasks[0]), ledger.tagged(tasks[1], "dog")])  # half of a shard, one of it to be tried again
    ledger.merge([ledger.tagged(task) for task in ledger.tasks(second)], [second])
    assert found() == {}
    ledger.database.run(lambda c: control.pause(c, job_id, "ann"))
    assert found() == {}
    ledger.database.run(lambda c: control.resume(c, job_id))
    ledger.database.run(lambda c: ending.fail(c, job_id, "no bucket"))
    assert found(quiet=True) == {}


def test_what_another_model_found_changed_is_not_lost(ledger, found, job):
    """Its job counts the photo as a new one; the first model's result is old until its own next job."""
    other = ledger.register("other")
    try:
        ledger.list([ref("k00", user="ann", etag="e2"), *REFS[1:]], model=other, shard_photos=3)
        assert found() == {}
    finally:
        ledger.empty()


def test_nothing_is_found_while_everything_happens_at_once(ledger):
    """Listers, redrivers, and workers that die, hand back or say everything twice: each snapshot is well."""
    fire, looks, found = Fire(ledger, seconds=4), 0, []
    burning = threading.Thread(target=fire.burn)
    burning.start()
    while burning.is_alive():
        with ledger.database.transaction() as connection:
            found += audit.findings(connection, Patience(lease_seconds=60.0))
        looks += 1
    burning.join()
    assert fire.errors == []
    assert looks > 1
    assert found == []
    fire.put_out()
    with ledger.database.transaction() as connection:
        assert audit.findings(connection, quiet=True) == ()


def test_names_are_unique_and_commands_exist():
    names = [audited.name for audited in (*AUDITS, QUIET)]
    assert len(names) == len(set(names))
    commands = {command.name for command in repair_group.registered_commands}
    for audited in (*AUDITS, QUIET):
        program, group, *rest = audited.repair.split()
        assert program == "pictograph"
        assert (group == "repair" and rest[0] in commands) or group == "redriver"


def test_a_lost_photo_of_a_failed_job_is_let_go_of(ledger, found, run_repair, job):
    ledger.execute("UPDATE core.job SET state = 12, error = 'no bucket'")
    ledger.execute("UPDATE core.photo SET content_rev = 2 WHERE key = 'k03'")
    run_repair(found()["lost photos"])
    assert found(quiet=True) == {}
    assert ledger.job(job).count(ItemState.CANCELLED) == 1
    assert ledger.job(job).state is JobState.FAILED
