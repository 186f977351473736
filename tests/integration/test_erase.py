"""Erasing a user: everything of theirs goes, nothing of anybody else's, and nothing brings it back."""

import json
import threading

import pytest
from ledger_helpers import BUCKET, LEASE_SECONDS, page_of, ref, wait_for
from sqlalchemy import text
from typer.testing import CliRunner

from pictograph import places
from pictograph.cli import erase as cli
from pipeline import crashpoints
from pipeline.errors import ConfigurationError, LeaseLost
from pipeline.ledger import delivery, ending, jobs, redrive, users
from pipeline.ledger import erase as erasing
from pipeline.ledger.delivery import DELIVERIES
from pipeline.ledger.erase import erase
from pipeline.ledger.listing import record_page
from pipeline.ledger.requests import Output
from pipeline.records import Code, ItemState, JobState, WorkState
from pipeline.settings import PREFIX
from pipeline.store import queries

KINDS = (
    *("photos", "results", "totals", "thumbnails", "items", "missing", "verdicts", "revisions", "keys", "lines"),
    "events",
)
NOTHING = dict.fromkeys(KINDS, 0)
OF_PHOTOS = ("photo_result", "thumbnail", "job_item", "job_missing")


@pytest.fixture
def library(ledger):
    """(job, tasks): six photos of Ann's and three of Ben's, tagged by two models; one more of each is still open."""
    refs = [*(ref(f"ann/{n}.jpg") for n in range(6)), *(ref(f"ben/{n}.jpg", user="ben") for n in range(3))]
    job_id = ledger.list(refs)
    results = ledger.tag_all(job_id, "dog")
    ledger.merge([ledger.tagged(r.task, "cat") for r in results], model=ledger.register("other"))
    ledger.execute("INSERT INTO core.thumbnail SELECT photo_id, 64, 1, 'x' FROM core.photo")
    ledger.list([*refs, ref("ann/new.jpg"), ref("ben/new.jpg", user="ben")])
    return job_id, [result.task for result in results]


def user_id(ledger, name="ann"):
    return ledger.one("SELECT user_id FROM core.app_user WHERE name = :name", name=name)


def rows_of(ledger, name="ann"):
    """Rows of the user by table, and of photos that are nowhere."""
    found = {"user_category": "SELECT count(*) FROM core.user_category WHERE user_id = :user"}
    found["photo"] = "SELECT count(*) FROM core.photo WHERE user_id = :user"
    found["photo_result by user"] = "SELECT count(*) FROM core.photo_result WHERE user_id = :user"
    for table in OF_PHOTOS:
        found[table] = f"""SELECT count(*) FROM core.{table} t LEFT JOIN core.photo p USING (photo_id)
                           WHERE p.photo_id IS NULL OR p.user_id = :user"""
    return {table: rows for table, query in found.items() if (rows := ledger.one(query, user=user_id(ledger, name)))}


def test_lines_of_results_are_blanked_and_delivered_results_written_again(ledger, library):
    job_id = ledger.list([ref("ann/0.jpg"), ref("ben/0.jpg", user="ben")], outputs=(Output(target="/results.jsonl"),))
    ledger.execute("UPDATE core.job SET state = 10")
    (row,) = ledger.all("SELECT delivery_id FROM core.delivery WHERE job_id = :job", job=job_id)
    lease = ledger.database.run(lambda c: DELIVERIES.claim(c, row.delivery_id, "worker", 60))
    ledger.database.run(lambda c: delivery.finish(c, lease, {}))
    writing = ledger.list([ref("ann/1.jpg")], whole=False, outputs=(Output(target="/more.jsonl"),))
    ledger.execute("UPDATE core.job SET state = 10")
    (held,) = ledger.all("SELECT delivery_id FROM core.delivery WHERE job_id = :job", job=writing)
    slow = ledger.database.run(lambda c: DELIVERIES.claim(c, held.delivery_id, "worker", 60))

    receipt = erase(ledger.database, "ann")
    assert (receipt.lines, receipt.outputs, receipt.left) == (2, 2, NOTHING)
    kept = ledger.all(
        "SELECT line, uri, photo_id, message FROM core.job_line WHERE job_id = :job ORDER BY 1", job=job_id
    )
    assert [line.uri for line in kept] == [None, f"{BUCKET}/ben/0.jpg"]
    assert kept[0][2:] == (None, None)
    with pytest.raises(LeaseLost):
        ledger.database.run(lambda c: delivery.finish(c, slow, {}))
    states = ledger.all("SELECT state, delivered_at, next_attempt_at > now() AS later FROM core.delivery ORDER BY 1, 3")
    assert [tuple(state) for state in states] == [(WorkState.PENDING, None, True), (WorkState.PENDING, None, None)]


def test_what_events_told_of_a_user_goes(ledger, library):
    for table, columns in (("object_event", "sequencer"), ("job_entry", "job_id, line")):
        values = "'00a1'" if table == "object_event" else f"{library[0]}, photo_id"
        ledger.execute(
            f"INSERT INTO core.{table} (bucket, key, {columns}) SELECT b.uri, p.key, {values} "
            "FROM core.photo p JOIN core.bucket b USING (bucket_id)"
        )
    assert erase(ledger.database, "ann").left == NOTHING
    for table in ("object_event", "job_entry"):
        assert {row.key[:4] for row in ledger.all(f"SELECT key FROM core.{table}")} == {"ben/"}


@pytest.mark.parametrize("batch", [1, 4, 500])
def test_everything_of_a_user_goes_and_nothing_of_the_others(ledger, library, batch):
    others = rows_of(ledger, "ben")
    receipt = erase(ledger.database, "ann", batch_photos=batch)
    assert (receipt.photos, receipt.results, receipt.thumbnails, receipt.items) == (7, 12, 6, 7)
    assert receipt.left == NOTHING
    assert receipt.finished_at >= receipt.requested_at
    assert rows_of(ledger) == {}
    assert rows_of(ledger, "ben") == others
    assert ledger.photos_with("dog") == (3, 27_000)
    ledger.check()


def test_verdicts_revisions_and_keys_go_with_the_user(ledger, library):
    ledger.execute(
        "INSERT INTO core.verdict (photo_id, node, verdict, content_rev, model_id, decision_rev, given_by) "
        "SELECT photo_id, node, 'confirm', 1, model_id, 1, 'open' FROM core.photo_result, unnest(tags) AS node "
        "WHERE model_id = :model",
        model=ledger.registered.model_id,
    )
    for name in ("ann", "ben"):
        ledger.execute(
            "INSERT INTO core.api_key (name, secret_sha256, user_name, scopes, created_by) "
            "VALUES ('a key', CAST(:name AS text)::bytea, :name, '{}', 'test')",
            name=name,
        )
        ledger.database.run(lambda c, name=name: users.set_consent(c, name, True))
    both, of_ben = (ledger.one(f"SELECT count(*) FROM core.verdict {which}") for which in ("", OF_BEN))
    fenced = ledger.database.run(lambda c: erasing.fence(c, "ann"))
    assert ledger.all("SELECT user_name FROM core.api_key WHERE revoked_at IS NULL") == [("ben",)]
    assert ledger.one("SELECT sum(users) FROM core.shared_total WHERE node = :dog", dog=ledger.node["dog"]) == 1
    ledger.check()
    receipt = erase(ledger.database, "ann", batch_photos=2)
    assert (receipt.verdicts, receipt.left) == (both - of_ben, NOTHING)
    assert ledger.one("SELECT count(*) FROM core.verdict") == of_ben > 0
    assert ledger.all("SELECT FROM core.user_revision WHERE user_id = :id", id=fenced) == []
    ledger.check()


OF_BEN = "WHERE photo_id IN (SELECT photo_id FROM core.photo JOIN core.app_user USING (user_id) WHERE name = 'ben')"


def test_jobs_keep_their_sums_and_end(ledger, library):
    done, _ = library
    (waits,) = ledger.all("SELECT max(job_id) FROM core.job")[0]
    erase(ledger.database, "ann")
    assert ledger.job(done).counts == {(ItemState.ERASED, Code.NONE): 6, (ItemState.SUCCEEDED, Code.TAGGED): 3}
    assert ledger.job(waits).counts == {
        (ItemState.SKIPPED_UNCHANGED, Code.NONE): 9,
        (ItemState.ERASED, Code.NONE): 1,
        (ItemState.PENDING, Code.NONE): 1,
    }
    ledger.tag_all(waits, "dog")
    assert set(ledger.database.run(ending.finish_jobs)) == {done, waits}
    ledger.check()


def test_a_shard_that_lost_all_its_photos_is_finished_by_whoever_claims_it(ledger):
    job_id = ledger.list([ref("ann/1.jpg")])
    erase(ledger.database, "ann")
    (lease,) = ledger.claim_all(job_id)
    assert ledger.tasks(lease) == []
    assert ledger.merge([], [lease]).finished == {lease.work_id}
    assert ledger.database.run(ending.finish_jobs) == [job_id]
    assert ledger.job(job_id).state is JobState.SUCCEEDED


@pytest.mark.parametrize("started", [False, True])
def test_a_shard_that_lost_photos_is_split_and_quarantined_like_any_other(ledger, started):
    job_id = ledger.list([ref("ann/1.jpg"), ref("ann/2.jpg"), ref("ben/1.jpg", user="ben")])
    for turn in range(8):
        ledger.execute("INSERT INTO core.worker (worker_id, queue) VALUES (:id, 'annotate.small')", id=f"worker {turn}")
        for lease in ledger.claim_all(job_id, f"worker {turn}"):
            ledger.execute("UPDATE core.shard SET lease_started = :s WHERE shard_id = :id", s=started, id=lease.work_id)
        if turn == 0:
            erase(ledger.database, "ann")
        ledger.expire()
        ledger.database.run(lambda c: redrive.expire_shards(c, 512, LEASE_SECONDS))
        ledger.check()
    left = (ItemState.FAILED, Code.QUARANTINED) if started else (ItemState.PENDING, Code.NONE)
    assert ledger.job(job_id).counts == {(ItemState.ERASED, Code.NONE): 2, left: 1}


def test_a_listing_does_not_bring_the_user_back(ledger, library):
    erase(ledger.database, "ann")
    job_id = ledger.list([*(ref(f"ann/{n}.jpg") for n in range(9)), ref("ben/0.jpg", user="ben")], whole=False)
    assert ledger.job(job_id).counts == {(ItemState.ERASED, Code.NONE): 9, (ItemState.SKIPPED_UNCHANGED, Code.NONE): 1}
    assert rows_of(ledger) == {}
    ledger.check()


@pytest.mark.parametrize("options", [{"whole": False}, {"keep_missing": True}, {}], ids=str)
def test_what_others_had_and_is_now_the_erased_users_goes(ledger, library, options):
    """A listing says that it is Ann's now; so nothing of it may stay under Ben's name."""
    erase(ledger.database, "ann")
    job_id = ledger.list([ref(f"ben/{n}.jpg", user="ann" if n else "ben") for n in range(3)], **options)
    assert ledger.job(job_id).counts == {(ItemState.ERASED, Code.NONE): 2, (ItemState.SKIPPED_UNCHANGED, Code.NONE): 1}
    assert ledger.photos_with("dog", "ben") == (1, 9000)
    left = ledger.all("SELECT DISTINCT key FROM core.photo_result JOIN core.photo USING (photo_id)")
    assert left == [("ben/0.jpg",)]
    ledger.check()


def test_what_moved_to_somebody_else_before_stays(ledger, library):
    ledger.list([ref("ann/0.jpg", user="ben")], whole=False)
    erase(ledger.database, "ann")
    assert ledger.photos_with("dog", "ben") == (4, 36_000)
    assert rows_of(ledger) == {}
    ledger.check()


def test_what_moves_to_somebody_else_while_it_is_erased_stays(ledger, library):
    """The eraser waits for the listing, and then sees whose the photo is."""
    job_id = ledger.submit()
    lease = ledger.claim_range(job_id)
    seen = []
    with ledger.database.transaction() as lister:
        record_page(lister, jobs.find(lister, job_id), lease, page_of([ref("ann/0.jpg", user="ben")]), None, 512)
        eraser = threading.Thread(target=lambda: seen.append(erase(ledger.database, "ann")))
        eraser.start()
        wait_for(lambda: blocked(ledger))
        assert seen == []
    eraser.join()
    assert seen[0].photos == 6
    assert ledger.photos_with("dog", "ben") == (4, 36_000)
    assert rows_of(ledger) == {}
    ledger.check()


def blocked(ledger):
    return ledger.one("SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0")


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours runs after it but the rollback that the server would do."""


@pytest.mark.parametrize("nth", range(1, 10))
def test_killed_at_any_point_it_goes_on_where_it_stood(ledger, library, nth):
    reached = []

    def kill(point):
        if point is crashpoints.Point.ERASE_MID:
            reached.append(point)
            if len(reached) == nth:
                raise Killed

    crashpoints.arm(kill)
    try:
        with pytest.raises(Killed):
            erase(ledger.database, "ann", batch_photos=2)
    finally:
        crashpoints.arm(None)
    ledger.check()
    assert ledger.database.run(lambda c: erasing.find(c, "ann")).finished_at is None
    receipt = erase(ledger.database, "ann")
    assert (receipt.photos, receipt.results, receipt.thumbnails, receipt.items) == (7, 12, 6, 7)
    assert (receipt.left, rows_of(ledger)) == (NOTHING, {})
    ledger.check()


def test_two_erasers_of_one_user_count_each_row_once(ledger, library):
    threads = [threading.Thread(target=erase, args=(ledger.database, "ann"), kwargs={"batch_photos": 1}) for _ in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    receipt = ledger.database.run(lambda c: erasing.find(c, "ann"))
    assert (receipt.photos, receipt.results, receipt.thumbnails, receipt.items) == (7, 12, 6, 7)
    assert receipt.finished_at is not None
    ledger.check()


def test_what_cannot_be_found_by_its_photos_keeps_the_erasure_from_being_complete(ledger, library):
    """Totals that no result explains are a defect; a receipt must not say that nothing is left."""
    ledger.execute("UPDATE core.user_category SET mass = mass + 1 WHERE user_id = :u", u=user_id(ledger))
    receipt = erase(ledger.database, "ann")
    assert receipt.finished_at is None
    assert receipt.left["totals"] > 0


# ---- thumbnails


def cache(ledger, photo_id):
    ledger.database.run(lambda c: queries.cache_thumbnail(c, photo_id, 32, 1, b"jpeg"))


def thumbnails(ledger, photo_id):
    return ledger.one("SELECT count(*) FROM core.thumbnail WHERE photo_id = :id AND side = 32", id=photo_id)


def test_no_thumbnail_is_kept_of_who_is_hidden(ledger, library):
    _, (task, *_) = library
    cache(ledger, task.photo_id)
    assert thumbnails(ledger, task.photo_id) == 1
    ledger.execute("DELETE FROM core.thumbnail")
    ledger.database.run(lambda c: erasing.fence(c, "ann"))
    cache(ledger, task.photo_id)
    assert thumbnails(ledger, task.photo_id) == 0


@pytest.mark.parametrize(
    "taking_away",
    ["UPDATE core.photo SET gone_at = now() WHERE photo_id = :id", "erase"],
)
def test_a_thumbnail_that_was_made_while_its_photo_went_is_not_kept(ledger, library, taking_away):
    _, (task, *_) = library
    with ledger.database.transaction() as connection:
        if taking_away == "erase":
            erasing.erase_some(connection, user_id(ledger), 500)
        else:
            connection.execute(text(taking_away), {"id": task.photo_id})
        api = threading.Thread(target=cache, args=(ledger, task.photo_id))
        api.start()
        wait_for(lambda: blocked(ledger))
    api.join()
    assert thumbnails(ledger, task.photo_id) == 0


# ---- the command


@pytest.fixture
def command(ledger, endpoints, monkeypatch):
    """`pictograph erase`, on the test's ledger."""
    monkeypatch.setenv(f"{PREFIX}DATABASE_URL", endpoints.database_url)
    assert not places.own(places.Service.POSTGRES)
    return lambda *words: CliRunner().invoke(cli.group, list(words))


def test_the_command_gives_a_receipt_and_says_the_second_time_that_it_is_done(command, ledger, library):
    first, second = (json.loads(command("ann", "--yes", "--json").stdout) for _ in range(2))
    assert (first["already"], second["already"]) == (False, True)
    assert {name: first[name] for name in ("user", "photos", "results", "thumbnails", "items", "left")} == {
        "user": "ann",
        "photos": 7,
        "results": 12,
        "thumbnails": 6,
        "items": 7,
        "left": NOTHING,
    }
    assert {**second, "already": False} == first
    told = command("ann").stdout.splitlines()  # what is done needs no confirmation
    assert "erased already" in told[0]
    assert [line.partition(" ")[0] for line in told[1:]] == ["Deleted:", "Left,"]


def test_the_command_erases_nobody_without_a_word(command, ledger, library):
    result = command("ann")
    assert isinstance(result.exception, ConfigurationError)
    assert "--yes" in str(result.exception)
    assert ledger.all("SELECT FROM core.erasure") == []


def test_the_command_refuses_whom_it_does_not_know(command, ledger, library):
    result = command("nobody", "--yes")
    assert isinstance(result.exception, ConfigurationError)  # exit status 2, by `main`
    assert "'nobody'" in str(result.exception)


def test_the_command_fails_while_anything_is_left(command, ledger, library):
    ledger.execute("UPDATE core.user_category SET mass = mass + 1 WHERE user_id = :u", u=user_id(ledger))
    result = command("ann", "--yes")
    assert result.exit_code == 1
    assert "not completely" in result.stdout
