"""Drills: one fault each, real servers and real workers, a job half-way through; then everything is counted.

How long it may take to be well again follows from the settings of the site, and is asserted three times over.
"""

import glob
import os
import random
import signal
import time

import pytest
import redis

from pipeline.records import Code, ItemState
from tests.chaos.disk import fill, small_disk
from tests.chaos.drilling import BUCKET, PHOTOS, SLOW_SECONDS, WORKERS, Ground, flat, opened, seconds_until
from tests.chaos.poisoned import DEADLY
from tests.chaos.proxy import Fault, Kind
from tests.chaos.servers import family, send, wait_for
from tests.chaos.site import BRIEF, Site
from workers.app import RECONNECT_SECONDS, create_app
from workers.send import ring

LEASE, TICK, STALE = BRIEF["lease_seconds"], BRIEF["tick_seconds"], BRIEF["stale_seconds"]
PAGE_KEYS = 16  # several pages a listing, and so several shards a job
TAKEOVER = LEASE + TICK + 1  # a lease runs out, the redriver looks, and who lives has a hand free within a second
START = 6.0  # of a worker, from its interpreter to its first heartbeat
BACK = RECONNECT_SECONDS + TICK  # a broker that is back is asked for, and the redriver rings with its next tick
PAGE = 1.0  # the ingest worker hears of a job and lists its first page, all through the latency
WATCHDOG = 10  # seconds after which the supervisor starts a worker anew that takes no message
OUTAGE = 5.0  # a database that is back is asked again every second
S3_TIMEOUT = 20.0  # of a request that does not come to its end
RETRY = 10.0  # the first pause of a photo that could not be had, and its second fetch
LONG_PHOTOS = 400
AWAY_SECONDS = 4.0 * LEASE


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with Site(tmp_path_factory.mktemp("site"), page_keys=PAGE_KEYS) as found:
        yield found


@pytest.fixture(scope="module")
def opening(site) -> Ground:
    return opened(site)


@pytest.fixture
def ground(opening) -> Ground:
    """All workers up, all proxies well; afterwards too."""
    opening.heal()
    opening.man()
    yield opening
    opening.heal()


# ---- processes that are killed


def test_the_whole_annotate_worker_is_killed(ground):
    work = ground.work()
    work.wait_for_the_middle()
    name, pid = ground.holder(work)
    ground.workers[name].kill()
    ground.recovered("kill -9 annotate worker", work.taken_over(pid), TAKEOVER)
    ground.bury(name)
    work.finish()
    work.check()


def test_the_child_that_has_the_model_is_killed(ground):
    work = ground.work()
    work.wait_for_the_middle()
    name, pid = ground.holder(work)
    os.kill(pid, signal.SIGKILL)
    ground.recovered("kill -9 annotate child", work.taken_over(pid), TAKEOVER)
    assert ground.workers[name].poll() is None
    work.finish()
    work.check()


def test_a_decode_child_is_killed(ground):
    work = ground.work()
    work.wait_for_the_middle()
    before = ground.decoders()
    before[0].kill()
    ground.recovered("kill -9 decode child", work.goes_on(), 1.0)
    work.finish()
    work.check()


def test_the_ingest_worker_is_killed_half_way_through_a_listing(ground):
    work = ground.work()
    wait_for(lambda: work.find().total >= PAGE_KEYS)
    assert work.find().listing
    ground.workers["ingest"].kill()
    listed = work.find().total
    ground.bury("ingest")
    ground.workers["ingest"] = ground.site.start("worker", "ingest")
    took = seconds_until(lambda: work.find().total > listed or not work.find().listing)
    ground.recovered("kill -9 ingest worker", took, LEASE + TICK + START)
    work.finish()
    work.check()


def test_the_redriver_is_killed(ground):
    work = ground.work()
    work.wait_for_the_middle()
    ground.workers["redriver"].kill()
    ground.bury("redriver")
    later = ground.work()
    ground.workers["redriver"] = ground.site.start("redriver")
    ground.recovered("kill -9 redriver", seconds_until(lambda: later.find().total > 0), START + TICK)
    for one in (work, later):
        one.finish()
        one.check()


def test_a_zombie_is_fenced(ground):
    work = ground.work()
    work.wait_for_the_middle()
    name, pid = ground.holder(work)
    os.kill(pid, signal.SIGSTOP)
    members = family(ground.workers[name].pid)
    send(members, signal.SIGSTOP)
    try:
        # The broker hands a message to the stopped one, too: that shard is rung for again when it is stale.
        ground.recovered("stopped worker", work.taken_over(pid), TAKEOVER + STALE)
        work.finish()
        work.check()
    finally:
        send(members, signal.SIGCONT)
    wait_for(lambda: ground.beats(pid), message="the zombie does not come back to life")
    later = ground.work()  # what it had in hand is stored, or refused, before it takes up anything else
    later.finish()
    for one in (work, later):
        one.check()


# ---- Redis


@pytest.mark.parametrize("loss", ["wipe", "flush"])
def test_redis_loses_everything(ground, loss):
    work = ground.work()
    work.wait_for_the_middle()
    getattr(ground.site.valkey, loss)()
    later = ground.work()
    ground.recovered(f"redis {loss}", seconds_until(lambda: later.find().total > 0), BACK)
    for one in (work, later):
        one.finish()
        one.check()


@pytest.mark.parametrize("how", ["dead", Kind.RESET, pytest.param(Kind.HANG, marks=pytest.mark.chaos)])
def test_workers_whose_tasks_end_without_redis_take_up_the_next_ones(ground, how):
    """Nobody supervises. What they tell Redis of their messages is lost; their hands are free all the same."""
    valkey, proxy = ground.site.valkey, ground.site.proxies["valkey"]
    work = ground.work(photos=LONG_PHOTOS)
    wait_for(lambda: len(ground.busy(work)) == 2)
    assert work.find().listing, "all was listed too soon: the ingest worker's task ends while Redis is there"
    if how == "dead":
        valkey.kill()
    else:
        proxy.inject(Fault(kind=how))
    work.finish()  # streams claim on, and so do their tasks end
    if how == "dead":
        valkey.start()
    ground.heal()
    later = ground.work(photos=LONG_PHOTOS)
    took = seconds_until(lambda: later.find().total > 0)
    ground.recovered(f"tasks end while redis is away: {how}", took, BACK + PAGE)
    wait_for(lambda: len(ground.busy(later)) == 2, message="not all annotate workers are back")
    later.finish()
    for one in (work, later):
        one.check()


# ---- Postgres


def test_postgres_is_restarted_as_by_a_crash(ground):
    work = ground.work()
    work.wait_for_the_middle()
    ground.site.postgres.stop_immediate()
    ground.site.postgres.start()
    ground.recovered("postgres immediate restart", work.goes_on(), OUTAGE)
    work.finish()
    work.check()


def test_a_backend_is_killed_and_postgres_recovers(ground):
    work = ground.work()
    work.wait_for_the_middle()
    moment = time.time()
    assert ground.site.postgres.kill_backend() is not None
    wait_for(lambda: ground.site.postgres.recovered_since(moment))  # until it has noticed, it answers
    ground.site.postgres.wait_until_it_answers()
    ground.recovered("kill -9 postgres backend", work.goes_on(), OUTAGE)
    work.finish()
    work.check()


def test_twenty_replies_to_commit_are_lost(ground):
    proxy = ground.site.proxies["postgres"]
    before = proxy.bites["drop_commit_reply"]
    work = ground.work()
    proxy.inject(Fault(kind=Kind.DROP_COMMIT_REPLY, times=4, only="core.photo_result"))
    proxy.inject(Fault(kind=Kind.DROP_COMMIT_REPLY, times=20))
    wait_for(lambda: proxy.bites["drop_commit_reply"] == before + 24)
    ground.recovered("lost replies to commit", work.goes_on(), OUTAGE)
    work.finish()
    work.check()


def test_messages_come_five_times_and_in_any_order(ground):
    work = ground.work()
    wait_for(lambda: not work.find().listing)
    calls = 5 * ground.doorbells(work)
    random.Random(5).shuffle(calls)
    with create_app(ground.site.direct) as app:
        for kind, queue, number in calls:
            ring(app, kind, queue, number)
    work.finish()
    queues = {queue for _, queue, _ in calls}
    with redis.Redis.from_url(ground.site.direct.broker_url.get_secret_value()) as broker:
        took = seconds_until(lambda: not any(map(broker.llen, queues)))
    ground.recovered("messages five times and shuffled", took, 5.0)
    work.check()


# ---- S3


def test_s3_refuses_and_breaks_off(ground):
    proxy = ground.site.proxies["s3"]
    before = proxy.bites
    kinds = (Kind.S3_503, Kind.S3_500, Kind.S3_SHORT_BODY, Kind.S3_SHORT_LENGTH, Kind.S3_RESET_MID_BODY)
    work = ground.work(slow=0)
    for kind in kinds:
        proxy.inject(Fault(kind=kind, share=0.1))
    proxy.inject(Fault(kind=Kind.S3_WRONG_ETAG, share=0.1))
    wait_for(lambda: work.done() >= PHOTOS // 2)
    ground.heal()
    ground.recovered("s3 refusals and broken bodies", work.finish(), 10.0)
    work.check()
    assert all(proxy.bites[kind] > before[kind] for kind in kinds)


def test_a_flipped_bit_is_fetched_again(ground):
    proxy = ground.site.proxies["s3"]
    before = proxy.bites[Kind.S3_BIT_FLIP]
    work = ground.work(slow=0)
    proxy.inject(Fault(kind=Kind.S3_BIT_FLIP, share=0.2))
    work.finish()
    work.check()
    assert proxy.bites[Kind.S3_BIT_FLIP] > before


def test_objects_are_overwritten_and_deleted_after_they_were_listed(ground):
    work = ground.work()
    wait_for(lambda: not work.find().listing)
    last = ground.waiting(work)
    client = ground.site.access.client()
    overwritten, deleted = last[:3], last[-3:]
    for n, key in enumerate(overwritten):
        work.bodies[key] = ground.upload(1000 + n)
        client.put_object(Bucket=BUCKET, Key=key, Body=work.bodies[key])
    for key in deleted:
        client.delete_object(Bucket=BUCKET, Key=key)
    work.finish()
    work.check(failed=dict.fromkeys(deleted, Code.GONE))


# ---- what takes longer


@pytest.mark.chaos
def test_a_dozen_kills_at_random_moments_set_no_good_photo_aside(ground):
    chance = random.Random(12)
    works = [ground.work(photos=LONG_PHOTOS)]

    def somebody_holds_some() -> bool:
        if works[-1].find().state.ended:  # all at once, it may be
            works.append(ground.work(photos=LONG_PHOTOS))
        ground.man()  # who was killed a moment ago still counted as there
        return bool(ground.holders(works[-1]))

    for _ in range(12):
        wait_for(somebody_holds_some)
        time.sleep(chance.uniform(0, LEASE))
        name = chance.choice(("annotate 1", "annotate 2"))
        pids = [pid for whose, pid in ground.holders(works[-1]) if whose == name]
        if pids and chance.random() < 0.5:
            os.kill(pids[0], signal.SIGKILL)
        else:
            ground.workers[name].kill()
            ground.bury(name)
        ground.man()
    for work in works:
        work.finish()
        work.check()


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["frozen", "dead"])
def test_streams_go_on_claiming_while_redis_is_away(ground, how):
    """Nobody supervises: the workers find their way back by themselves."""
    valkey = ground.site.valkey
    work = ground.work(photos=LONG_PHOTOS, slow=2 * SLOW_SECONDS)
    wait_for(lambda: not work.find().listing)  # else a stream may find nothing to claim, and end
    work.wait_for_the_middle()
    (valkey.pause if how == "frozen" else valkey.kill)()
    away = time.monotonic()
    claimed = {lease.shard for lease in work.held()}
    later = ground.work(photos=8)
    try:
        wait_for(lambda: {lease.shard for lease in work.held()} - claimed, message="nothing more is claimed")
        wait_for(lambda: time.monotonic() - away > AWAY_SECONDS)
    finally:
        (valkey.resume if how == "frozen" else valkey.start)()
    took = seconds_until(lambda: later.find().total > 0)
    bound = BACK + PAGE + (STALE if how == "frozen" else 0)  # a message may have gone to a connection that was given up
    ground.recovered(f"redis {how} for {AWAY_SECONDS:.0f} s", took, bound)
    for one in (work, later):
        one.finish()
        one.check()


@pytest.mark.chaos
@pytest.mark.parametrize("how", ["kill_postmaster", "kill", "stop_fast"])
def test_postgres_dies_and_comes_back_later(ground, how):
    work = ground.work(photos=LONG_PHOTOS)
    work.wait_for_the_middle()
    getattr(ground.site.postgres, how)()
    away = time.monotonic()
    wait_for(lambda: time.monotonic() - away > 2 * LEASE)
    ground.site.postgres.start()
    ground.recovered(f"postgres {how}, away for {2 * LEASE} s", work.goes_on(), OUTAGE)
    work.finish()
    work.check()


@pytest.mark.chaos
@pytest.mark.parametrize("server", ["postgres", "valkey", "s3"])
@pytest.mark.parametrize(
    "fault", [Fault(kind=Kind.HANG), Fault(kind=Kind.RESET, share=0.2), Fault(kind=Kind.SLICE, bytes=700)]
)
def test_a_line_is_bad_for_a_while(ground, server, fault):
    proxy = ground.site.proxies[server]
    before = proxy.bites[fault.kind]
    with ground.supervised(watchdog_seconds=WATCHDOG):  # as people run it; Redis without: above
        work = ground.work(photos=LONG_PHOTOS)
        work.wait_for_the_middle()
        proxy.inject(fault)
        away = time.monotonic()
        wait_for(lambda: time.monotonic() - away > 2 * LEASE)
        ground.heal()
        ground.recovered(f"{server}: {fault.kind} for {2 * LEASE} s", work.goes_on(), OUTAGE)
        work.finish()
        work.check()
    assert proxy.bites[fault.kind] > before


@pytest.mark.chaos
def test_twenty_merges_in_a_row_lose_their_reply(ground):
    proxy = ground.site.proxies["postgres"]
    before = proxy.bites["drop_commit_reply"]
    work = ground.work()
    proxy.inject(Fault(kind=Kind.DROP_COMMIT_REPLY, times=20, only="core.photo_result"))
    wait_for(lambda: proxy.bites["drop_commit_reply"] == before + 20)
    ground.recovered("20 merges in a row without a reply", work.finish(), OUTAGE + LEASE + TICK)
    work.check()


@pytest.mark.chaos
@pytest.mark.parametrize("kind", [Kind.S3_STALL, Kind.S3_TRICKLE])
def test_s3_stops_in_the_middle_of_a_body(ground, kind):
    proxy = ground.site.proxies["s3"]
    before = proxy.bites[kind]
    work = ground.work(slow=0)
    proxy.inject(Fault(kind=kind, times=4))
    ground.recovered(f"{kind} of 4 bodies", work.finish(), S3_TIMEOUT + RETRY)
    assert proxy.bites[kind] == before + 4
    work.check()


@pytest.mark.chaos
def test_s3_is_away_and_no_photo_is_blamed(ground):
    work = ground.work(photos=LONG_PHOTOS)
    work.wait_for_the_middle()
    ground.site.s3.kill()
    wait_for(lambda: work.find().count(ItemState.RETRY) > 0)
    ground.site.s3.start()
    ground.recovered("s3 killed", work.goes_on(), RETRY)
    work.finish()
    work.check()


@pytest.mark.chaos
def test_a_photo_that_kills_the_process_is_found_and_its_neighbours_are_tagged(ground):
    for name in ("annotate 1", "annotate 2"):
        ground.workers[name].kill()
        ground.bury(name)
        ground.workers[name] = ground.site.start("worker", "annotate", module="tests.chaos.poisoned")
    began = time.monotonic()
    work = ground.work(photos=7, slow=0, extra={"user 0/poison.jpg": flat(DEADLY)})
    work.finish()
    deaths = 2 * 4  # of 8 photos together, of 4, of 2, and of the one alone
    ground.recovered("poison photo among 8", time.monotonic() - began, deaths * (LEASE + TICK + START))
    poison = f"{work.prefix}user 0/poison.jpg"
    work.check(failed={poison: Code.QUARANTINED})
    assert ground.reason(work, poison)
    for name in ("annotate 1", "annotate 2"):
        ground.site.kill(ground.workers[name])


@pytest.mark.chaos
def test_clocks_of_workers_jump(ground, tmp_path):
    library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        pytest.skip("libfaketime is not here; install the package faketime")
    clock = tmp_path / "clock"
    clock.write_text("+0\n")
    shifted = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    for name in ("annotate 1", "redriver"):  # the other one's clock stays right: the two disagree
        ground.workers[name].kill()
        ground.bury(name)
        ground.workers[name] = ground.site.start(*WORKERS[name], env=shifted)
    ground.man()
    for jump in ("+600", "-600", "+0"):  # S3 refuses signatures that are a quarter of an hour off, whoever sends them
        work = ground.work()
        work.wait_for_the_middle()
        clock.write_text(f"{jump}\n")
        ground.recovered(f"clock jumps to {jump} s", work.goes_on(), 1.0 + TICK)
        work.finish()
        work.check()
    for name in ("annotate 1", "redriver"):
        ground.site.kill(ground.workers[name])


@pytest.mark.chaos
def test_the_disk_of_postgres_is_full(ground, tmp_path):
    with small_disk(ground.site.postgres) as disk:
        work = ground.work(photos=LONG_PHOTOS)
        work.wait_for_the_middle()
        ballast = disk / "ballast"
        log = ground.site.postgres.log
        known = log.stat().st_size
        fill(ballast)
        wait_for(lambda: b"No space left on device" in log.read_bytes()[known:])
        away = time.monotonic()
        wait_for(lambda: time.monotonic() - away > LEASE)
        ballast.unlink()
        if not ground.site.postgres.runs:
            ground.site.postgres.start()
        ground.site.postgres.wait_until_it_answers()
        ground.recovered("disk of postgres full", work.goes_on(), OUTAGE)
        work.finish()
        work.check()
