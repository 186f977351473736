"""The stream over real PostgreSQL, real S3 and real decode children, with a model that only looks at the colour."""

import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from engine_helpers import BODIES, POISON, TUNING, ColourModel, jpeg
from ledger_helpers import LEASE_SECONDS, wait_for

from pipeline.errors import BackendDown, ConfigurationError, DeviceLost, ModelError, ServiceDown
from pipeline.ledger import ending, redrive, work
from pipeline.records import Code, ItemState, JobState, WorkState
from pipeline.store.session import Database
from workers.engine import outages
from workers.fetch import Fetcher
from workers.heart import Heart
from workers.holdings import Holdings


def test_every_photo_of_a_rough_library_ends_in_exactly_one_state(library):
    library.put(60)
    for key, body in {
        "ann/corrupt.jpg": BODIES["dog"][:200],
        "ann/empty.jpg": b"",
        "ann/text.jpg": b"no photo at all, only some words",
        "ben/deleted.jpg": BODIES["dog"],
        "ben/changed.jpg": BODIES["dog"],
        "cleo/poison.jpg": jpeg(POISON),
    }.items():
        library.write(key, body)
    job_id = library.list()
    library.client.delete_object(Bucket=library.bucket, Key="ben/deleted.jpg")
    library.write("ben/changed.jpg", BODIES["cat"])

    assert library.stream().run(library.first(job_id)) == 66
    codes = library.codes(job_id)
    assert {key: codes.pop(key) for key in list(codes) if key not in library.labels} == {
        "ann/corrupt.jpg": (ItemState.FAILED, Code.CORRUPT),
        "ann/empty.jpg": (ItemState.FAILED, Code.UNSUPPORTED),
        "ann/text.jpg": (ItemState.FAILED, Code.UNSUPPORTED),
        "ben/deleted.jpg": (ItemState.FAILED, Code.GONE),
        "ben/changed.jpg": (ItemState.RETRY, Code.NONE),
        "cleo/poison.jpg": (ItemState.FAILED, Code.MODEL_ERROR),
    }
    assert set(codes.values()) == {(ItemState.SUCCEEDED, Code.TAGGED)}
    library.check_nothing_held(job_id)
    assert library.ledger.database.run(ending.finish_jobs) == []  # one photo waits

    assert library.bring_back() == 1
    assert library.stream().run(library.first(job_id)) == 1
    assert library.codes(job_id)["ben/changed.jpg"] == (ItemState.SUCCEEDED, Code.TAGGED)
    tagged = library.tagged()
    assert tagged["ben/changed.jpg"] == "cat"
    assert {key: tagged[key] for key in library.labels} == library.labels
    assert library.ledger.database.run(ending.finish_jobs) == [job_id]
    found = library.ledger.job(job_id)
    assert (found.state, found.total, found.waiting) == (JobState.SUCCEEDED_WITH_ERRORS, 66, 0)
    library.ledger.check()
    again = library.list()
    assert library.ledger.job(again).by_code(ItemState.PENDING) == {}


def test_one_stream_takes_all_shards_and_a_stream_on_a_finished_one_nothing(library):
    library.put(60)
    job_id = library.list()
    assert len(library.ledger.shards(job_id)) >= 6
    first = library.first(job_id)
    assert library.stream().run(first) == 60
    library.check_all_done(job_id)
    idle = library.stream()
    untouched = idle.effort
    assert idle.run(first) == 0
    assert idle.effort is untouched  # no step of it has begun


def test_never_more_than_a_few_shards_are_held(library):
    library.put(60)
    job_id = library.list()
    held = []
    model = ColourModel(lambda _: held.append(len(library.ledger.shards(job_id, WorkState.LEASED))))
    library.stream(model).run(library.first(job_id))
    assert max(held) <= 3
    library.check_all_done(job_id)


def test_after_its_time_a_stream_claims_no_more(library):
    library.put(60)
    job_id = library.list()
    done = library.stream(stream_seconds=1e-9).run(library.first(job_id))
    assert 0 < done <= 10
    assert len(library.ledger.shards(job_id, WorkState.DONE)) == 1
    library.check_nothing_held(job_id)


def test_a_stream_says_what_it_cost(library):
    library.put(60)
    job_id = library.list()
    stream = library.stream()
    assert stream.run(library.first(job_id)) == 60
    cost = stream.effort
    assert cost.photos == 60
    assert set(cost.cpu_seconds) == {"feed", "fetch", "recognise", "decode", "classify", "annotate", "merge", "close"}
    assert 0 < sum(cost.cpu_seconds.values()) <= cost.process_cpu_seconds
    assert 0 <= cost.starved_seconds <= cost.seconds


def test_two_streams_share_a_job(library):
    library.put(60)
    job_id = library.list()
    both = threading.Barrier(2, timeout=30)

    def meet(batch):
        if batch == 1:
            both.wait()  # each has photos before either goes on

    one_shard = replace(TUNING, shards_ahead=0)  # so that neither claims the other's first one
    streams = [library.stream(ColourModel(meet), tuning=one_shard) for _ in range(2)]
    shards = [row.shard_id for row in library.ledger.shards(job_id)]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda pair: pair[0].run(pair[1]), zip(streams, shards, strict=False)))
    assert sum(done) == 60
    assert min(done) > 0
    library.check_all_done(job_id)


def test_a_stop_merges_what_is_done_and_hands_the_rest_back(library):
    library.put(60)
    job_id = library.list()
    stop = threading.Event()
    done = library.stream(ColourModel(lambda batch: batch == 2 and stop.set()), stop).run(library.first(job_id))
    assert 0 < done < 60
    assert library.ledger.job(job_id).count(ItemState.SUCCEEDED) == done
    library.check_nothing_held(job_id)
    assert library.stream().run(library.first(job_id)) == 60 - done
    library.check_all_done(job_id)


@pytest.mark.parametrize(
    ("error", "failures"),
    [
        (RuntimeError("a bug"), {0, 1}),
        (ModelError("the canaries are dead"), {0}),
        (DeviceLost("the GPU is gone"), {0}),
    ],
)
def test_a_model_that_breaks_ends_the_stream_and_no_photo_is_blamed(library, error, failures):
    library.put(60)
    job_id = library.list()

    def breaks(batch):
        if batch == 3:
            model.healthy = False
            raise error

    model = ColourModel(breaks)
    with pytest.raises(type(error), match=str(error)):
        library.stream(model).run(library.first(job_id))
    library.check_nothing_held(job_id)
    assert library.ledger.job(job_id).count(ItemState.FAILED) == 0
    assert {row.failures for row in library.ledger.shards(job_id)} == failures
    suspects = [row for row in library.ledger.shards(job_id) if row.suspicions]
    assert bool(suspects) == (not isinstance(error, RuntimeError))
    assert all(row.alone and row.state == WorkState.PENDING for row in suspects)
    library.forget_the_pause()
    library.run_all(job_id)
    library.check_all_done(job_id)
    assert {row.failures for row in library.ledger.shards(job_id)} == {0}  # progress has cleared them


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt("Ctrl-C")])
@pytest.mark.parametrize("where", ["merge", "close"])
def test_a_stream_that_breaks_between_its_steps_leaves_no_thread_behind(library, where, error, monkeypatch):
    """Else a feeder that nobody waits for would go on to claim shards, and a decoder write into the next one's rows."""
    library.put(60)
    job_id = library.list()
    stream = library.stream()
    start, fetch, steps = threading.Thread.start, Fetcher.fetch, []

    def refuse(thread):
        if thread.name == where:
            raise error
        steps.append(thread)
        start(thread)

    def slowly(fetcher, task):
        time.sleep(0.1)  # so that none has ended by itself
        return fetch(fetcher, task)

    first = library.first(job_id)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        patched.setattr(Fetcher, "fetch", slowly)
        with pytest.raises(type(error)):
            stream.run(first)
    assert [thread.name for thread in steps if thread.is_alive()] == []
    library.check_nothing_held(job_id)
    library.forget_the_pause()
    library.run_all(job_id)
    library.check_all_done(job_id)


def test_a_model_that_sees_its_canaries_is_not_to_blame_for_what_it_was_given(library):
    library.put(10)
    job_id = library.list()

    class TooMuch(ColourModel):
        def start(self, _):
            raise ModelError("not even one of these fits into the memory")

    with pytest.raises(ModelError) as caught:
        library.stream(TooMuch()).run(library.first(job_id))
    assert not isinstance(caught.value, BackendDown)
    (row,) = library.ledger.shards(job_id)
    assert (row.failures, row.suspicions) == (1, [])


def test_an_error_that_nobody_explains_fails_the_job_at_the_fifth_time(library, monkeypatch):
    first = 200 * work.FAILURE_PAUSE_SECONDS  # so long that no machine is too slow to see it
    monkeypatch.setattr(work, "FAILURE_PAUSE_SECONDS", first)
    library.put(10)
    job_id = library.list()

    def bug(_):
        raise ZeroDivisionError("a bug\0 of ours.")

    pauses = []
    for n in range(redrive.FAILURES_ALLOWED):
        assert not library.ledger.job(job_id).state.ended
        with pytest.raises(ZeroDivisionError):
            library.stream(ColourModel(bug)).run(library.first(job_id))
        (row,) = library.ledger.shards(job_id)
        assert (row.failures, row.error, row.deaths) == (n + 1, "ZeroDivisionError: a bug of ours", 0)
        pauses.append(library.ledger.one("SELECT extract(epoch FROM next_attempt_at - now())::float FROM core.shard"))
        assert library.stream().run(row.shard_id) == 0  # not at once
        library.forget_the_pause()
    assert pauses == pytest.approx([first * 2**n for n in range(redrive.FAILURES_ALLOWED)], rel=0.2)
    job = library.ledger.job(job_id)
    assert job.state is JobState.FAILED
    assert "failed 5 times in a row (ZeroDivisionError: a bug of ours)" in job.error
    library.ledger.check()


def test_a_failing_shard_does_not_take_its_neighbours_along(library):
    """A merge that cannot be made is met again and again; the other shards get done, and their jobs with them."""
    library.put(10)
    sick = library.list()
    library.write("well/zoe/1.jpg", BODIES["dog"])
    well = library.list("well/")  # no photo in common: what one job stores, the other does not look at

    class Sick(ColourModel):
        def predict(self, pixels):
            if library.ledger.shards(sick, WorkState.LEASED):
                raise ZeroDivisionError
            return super().predict(pixels)

    for _ in range(20):
        library.forget_the_pause()
        pending = [row for job in (well, sick) for row in library.ledger.shards(job, WorkState.PENDING)]
        if not pending:
            break
        with contextlib.suppress(ZeroDivisionError):
            library.stream(Sick()).run(pending[0].shard_id)
    assert library.ledger.job(sick).state is JobState.FAILED
    assert library.ledger.job(well).count(ItemState.SUCCEEDED) == 1
    library.ledger.check()


class Shaky(Database):
    """Commits, and then now and then says that it did not: the replies to the merges are lost."""

    losses = 0
    error = ServiceDown("the reply was lost")

    def run(self, work):
        answer = super().run(work)
        if threading.current_thread().name == "merge" and self.losses > 0:
            self.losses -= 1
            raise self.error
        return answer


class Away(Database):
    """Does not answer one step of the stream for a while."""

    step = ""
    refusals = 0

    def run(self, work):
        if threading.current_thread().name == self.step and self.refusals > 0:
            self.refusals -= 1
            raise ServiceDown("away for a moment")
        return super().run(work)


@pytest.mark.parametrize("step", ["feed", "fetch", "merge"])
def test_a_database_that_is_away_for_a_moment_costs_a_moment(library, step, monkeypatch):
    monkeypatch.setattr(outages, "PAUSE_SECONDS", 0.01)
    library.put(60)
    job_id = library.list()
    with Away(library.ledger.database.engine.url.render_as_string(hide_password=False), "away", connections=8) as away:
        stream = library.stream(database=away)
        away.step, away.refusals = step, 5
        assert stream.run(library.first(job_id)) == 60
        assert away.refusals == 0
        for heart in library.hearts:
            heart.stop()
        library.hearts.clear()
    library.check_all_done(job_id)


def test_a_feeder_does_not_wait_longer_than_its_leases_live(library, monkeypatch):
    monkeypatch.setattr(outages, "PAUSE_SECONDS", 0.01)
    library.put(60)
    job_id = library.list()
    with Away(library.ledger.database.engine.url.render_as_string(hide_password=False), "away", connections=8) as away:
        away.step, away.refusals = "feed", 10**9
        with pytest.raises(ServiceDown):
            library.stream(database=away, lease_seconds=0.5).run(library.first(job_id))
        for heart in library.hearts:
            heart.stop()
        library.hearts.clear()
    library.check_nothing_held(job_id)
    library.run_all(job_id)
    library.check_all_done(job_id)


@pytest.fixture
def shaky(ledger):
    url = ledger.database.engine.url.render_as_string(hide_password=False)
    with Shaky(url, "pictograph tests", connections=8) as database:
        yield database


def test_a_lost_reply_counts_nothing_twice(library, shaky):
    library.put(20)
    job_id = library.list()
    shaky.losses = 2
    assert library.stream(database=shaky).run(library.first(job_id)) == 20
    assert shaky.losses == 0
    library.check_all_done(job_id)


@pytest.mark.parametrize("error", [ServiceDown("still away"), ConfigurationError("the password was changed")])
def test_a_merge_that_cannot_be_made_ends_the_stream_with_its_reason(library, shaky, error):
    """Results come, nobody takes them, and still every thread must end."""
    library.put(60)
    job_id = library.list()
    shaky.losses, shaky.error = 10**6, error
    with pytest.raises(type(error), match=str(error)):
        library.stream(database=shaky, lease_seconds=1).run(library.first(job_id))
    library.check_nothing_held(job_id)
    blamed = {row.failures for row in library.ledger.shards(job_id)}
    assert blamed == ({0} if isinstance(error, ServiceDown) else {0, 1})
    library.forget_the_pause()
    library.run_all(job_id)
    library.check_all_done(job_id)


def test_connections_that_are_cut_cost_time_only(library):
    """All of the stream's connections are ended in mid-work; it goes on or gives up, but loses and doubles nothing."""
    library.put(60)
    job_id = library.list()
    url = library.ledger.database.engine.url.render_as_string(hide_password=False)

    def cut(batch):
        if batch in (2, 4):
            library.ledger.all(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'to be cut'"
            )

    with Database(url, "to be cut", connections=8) as database:
        with contextlib.suppress(ServiceDown):
            library.stream(ColourModel(cut), database=database).run(library.first(job_id))
        for heart in library.hearts:
            heart.stop()
        library.hearts.clear()
    library.ledger.check()
    library.ledger.expire(died=False)
    library.ledger.database.run(lambda c: redrive.expire_shards(c, 10, LEASE_SECONDS))
    if library.ledger.shards(job_id, WorkState.PENDING):
        library.stream().run(library.first(job_id))
    library.check_all_done(job_id)


def test_a_lost_lease_keeps_the_results_and_leaves_the_shard_to_its_new_holder(library):
    library.put(10)
    job_id = library.list()
    taken = []

    def take_away():
        library.ledger.expire(died=False)
        library.ledger.database.run(lambda c: redrive.expire_shards(c, 10, LEASE_SECONDS))
        (row,) = library.ledger.shards(job_id)
        return library.ledger.claim(row.shard_id, "second")

    def lose(batch):
        if batch == 1:
            taken.append(wait_for(take_away))  # a beat of the heart that comes in between renews the lease
            time.sleep(0.6)  # the heart notices meanwhile

    library.stream(ColourModel(lose), lease_seconds=1).run(library.first(job_id))
    (row,) = library.ledger.shards(job_id)
    assert (row.state, row.lease_owner) == (WorkState.LEASED, "second")
    results = library.ledger.one("SELECT count(*) FROM core.photo_result")
    assert 8 <= results <= 10  # at least the batch in hand
    assert len(library.ledger.tasks(taken[0])) == 10 - results
    library.ledger.database.run(lambda c: work.SHARDS.release(c, taken))
    library.stream().run(row.shard_id)
    library.check_all_done(job_id)


def test_a_store_that_is_away_makes_photos_wait_and_blames_none(library):
    library.put(6)
    job_id = library.list()
    settings = library.settings
    library.settings = settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    assert library.stream().run(library.first(job_id)) == 6
    assert library.ledger.job(job_id).counts == {(ItemState.RETRY, Code.NONE): 6}
    library.check_nothing_held(job_id)
    library.settings = settings
    assert library.bring_back() == 6
    library.stream().run(library.first(job_id))
    library.check_all_done(job_id)


def test_a_bucket_that_is_deleted_under_a_job_makes_its_photos_wait(library):
    library.put(4)
    job_id = library.list()
    for key in library.labels:
        library.client.delete_object(Bucket=library.bucket, Key=key)
    library.client.delete_bucket(Bucket=library.bucket)
    assert library.stream().run(library.first(job_id)) == 4
    assert library.ledger.job(job_id).counts == {(ItemState.RETRY, Code.NONE): 4}


def test_a_shard_whose_photos_are_all_done_is_finished_at_once(library):
    library.put(5)
    job_id = library.list()
    lease = library.ledger.claim(library.first(job_id), "before")
    library.ledger.merge([library.ledger.tagged(t, library.labels[t.key]) for t in library.ledger.tasks(lease)])
    library.ledger.database.run(lambda c: work.SHARDS.release(c, [lease]))
    assert library.stream().run(library.first(job_id)) == 0
    library.check_all_done(job_id)


def test_bigger_photos_than_allowed_are_not_read(library):
    library.put(3)
    library.write("ann/big.jpg", BODIES["dog"] + b"\0" * 5000)
    job_id = library.list()
    library.stream(max_photo_bytes=4000).run(library.first(job_id))
    assert library.codes(job_id)["ann/big.jpg"] == (ItemState.FAILED, Code.TOO_LARGE)
    library.ledger.check()


# ---- the heart


def test_the_heart_renews_what_moves_and_drops_what_is_lost(library):
    library.put(20)
    job_id = library.list()
    kept, lost = (library.ledger.claim(row.shard_id, "w", 60) for row in library.ledger.shards(job_id)[:2])
    holdings = Holdings()
    for lease in (kept, lost):
        holdings.add(lease, range(10))
    library.ledger.execute("UPDATE core.shard SET lease_epoch = 9 WHERE shard_id = :id", id=lost.work_id)
    before = library.ledger.one("SELECT lease_until FROM core.shard WHERE shard_id = :id", id=kept.work_id)
    heart = Heart(library.ledger.database, "w", "annotate.small", 600)
    heart.watch(holdings)
    heart.start()
    wait_for(lambda: len(holdings) == 1)
    heart.stop()
    assert holdings.leases() == [kept]
    assert library.ledger.one("SELECT lease_until FROM core.shard WHERE shard_id = :id", id=kept.work_id) > before
    assert library.ledger.all("SELECT * FROM core.worker") == []


def test_the_heart_outlives_a_database_that_is_busy_or_cut(library):
    """Renewing meets locks and lost connections; a heart that stops at the first would cost every lease."""
    url = library.ledger.database.engine.url.render_as_string(hide_password=False)
    with Database(url, "to be cut", connections=1) as database:
        heart = Heart(database, "w", "annotate.small", 0.2)
        heart.start()
        for _ in range(3):
            library.ledger.all(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'to be cut'"
            )
            time.sleep(0.1)
        wait_for(lambda: library.ledger.all("SELECT * FROM core.worker"))
        seen = library.ledger.one("SELECT last_seen FROM core.worker")
        wait_for(lambda: library.ledger.one("SELECT last_seen FROM core.worker") > seen)
        heart.stop()


class Odd(Database):
    """Raises what no heart expects, a few times."""

    oddities = 3

    def run(self, work):
        if self.oddities:
            self.oddities -= 1
            raise ZeroDivisionError
        return super().run(work)


def test_the_heart_outlives_what_nobody_thought_of(library, caplog):
    with Odd(library.ledger.database.engine.url.render_as_string(hide_password=False), "odd") as database:
        heart = Heart(database, "w", "annotate.small", 0.1)
        heart.start()
        wait_for(lambda: library.ledger.all("SELECT * FROM core.worker"))
        assert library.ledger.one("SELECT worker_id FROM core.worker") == "w"
        heart.stop()
    assert "ZeroDivisionError" in caplog.text  # with its traceback
