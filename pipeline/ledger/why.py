"""Why a job does not move, in one sentence: the most decisive reason of all that hold.

`gather` reads the facts, `explain` judges them and reads nothing. Reasons are asked in the order of `_REASONS`: whether
the job can move at all, then whether it does, then who is missing, then what is waited for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.ledger.control import held_by_window
from pipeline.ledger.jobs import Job
from pipeline.ledger.limits import ALL
from pipeline.ledger.situation import Crew, Situation, gather
from pipeline.records import ItemState, JobState, WorkState

__all__ = ["Reason", "Situation", "explain", "gather", "sentence"]


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What is decisive about a situation."""

    code: str  # for machines
    moves: bool
    sentence: str


def sentence(situation: Situation) -> str:
    """Why the job does not move, or that it does."""
    return explain(situation).sentence


def explain(situation: Situation) -> Reason:
    """The most decisive reason of all that hold."""
    for code, look in _REASONS:
        said = look(situation)
        if said is not None:
            return _reason(situation, code, said)
    return _reason(situation, "unpublished", "its work has not been published yet; a redriver does with its next look")


def _reason(situation: Situation, code: str, said: str) -> Reason:
    begin = {"ended": "", "over": " is over:"}
    begin |= dict.fromkeys(("pausing", "paused", "window_closed", "cancelling"), f" is {situation.job.condition}:")
    moves = code in _MOVING
    verb = begin.get(code, " moves:" if moves else " does not move:" if code not in _SOON else " is about to move:")
    return Reason(code=code, moves=moves, sentence=f"Job {situation.job.job_id}{verb} {said}.")


def _ended(s: Situation) -> str | None:
    if not s.job.state.ended:
        return None
    when = _at(s.job.finished_at, s.now) if s.job.finished_at else "some time ago"
    failed = s.job.count(ItemState.FAILED)
    if s.job.state is JobState.FAILED:
        return f"failed at {when}: {_bare(s.job.error or 'nobody knows why')}{_undelivered(s)}"
    but = f", {failed:,} of them failed" if failed else ""
    return f"ended at {when}, {s.job.condition.replace('_', ' ')}: {_photos(s.job.total)}{but}{_undelivered(s)}"


def _undelivered(s: Situation) -> str:
    """What of an ended job has not arrived: first what was given up, then what waits."""
    found = sorted(s.undelivered, key=lambda each: each.state is not WorkState.CANCELLED)
    if not found:
        return ""
    first, others = found[0], len(found) - 1
    why = f" ({_bare(first.error)})" if first.error else ""
    more = f", nor did {_count(others, 'other')}" if others else ""
    if first.state is WorkState.CANCELLED:
        return f"; its {first.named} will not arrive{why}{more}"
    if _empty(s.ingest):
        what = ", and no ingest worker is alive to bring anything"
    else:
        what = f", and another try follows at {_at(first.next_attempt_at, s.now)}" if first.error else ""
    return f"; its {first.named} did not arrive yet{why}{more}{what}"


def _ending(s: Situation) -> str | None:
    if s.job.state is not JobState.CANCELLING:
        return None
    cause = _bare(s.job.error) if s.job.error else f"{s.job.cancelled_by or 'somebody'} cancelled it"
    left = f"{_photos(s.job.waiting)} {_verb(s.job.waiting, 'is', 'are')} to be counted as cancelled"
    return f"{cause}, and {left}" + (", which a redriver does; none is alive" if _empty(s.redriver) else "")


def _pausing(s: Situation) -> str | None:
    if not s.job.in_hand:
        return None
    held = s.shards.leased + s.shards.abandoned
    what = _count(held, "shard") + " in hand" if held else "a page of its listing"
    return f"{_whoever(s)}, and {what} will be finished before it rests"


def _paused(s: Situation) -> str | None:
    if s.job.state is not JobState.PAUSED:
        return None
    return f"{_whoever(s)}; `pictograph jobs resume {s.job.job_id}` lets it go on"


def _outside(s: Situation) -> str | None:
    if not held_by_window(s.job) or s.job.in_hand:
        return None
    return f"{_whoever(s)}; `pictograph jobs resume {s.job.job_id} --ignore-window` lets it go on now"


def _whoever(s: Situation) -> str:
    until = f" until {_at(s.job.pause_until, s.now)}" if s.job.pause_until else ""
    if held_by_window(s.job):
        return f"its {s.job.paused_by} is closed{until}"
    when = f" at {_at(s.job.paused_at, s.now)}" if s.job.paused_at else ""
    why = f" ({_bare(s.job.pause_reason)})" if s.job.pause_reason else ""
    return f"{s.job.paused_by or 'somebody'} paused it{when}{until}{why}"


def _locked(s: Situation) -> str | None:
    if s.lock is None:
        return None
    holder = f"{s.lock.holder or 'a session'} (pid {s.lock.holder_pid})"
    since = f" in a transaction that began at {_at(s.lock.holder_since, s.now)}" if s.lock.holder_since else ""
    return (
        f"since {_at(s.lock.since, s.now)} {s.lock.waiter} (pid {s.lock.waiter_pid}) waits for a lock in the database "
        f"that {holder} holds{since}"
    )


def _tagging(s: Situation) -> str | None:
    if s.shards.workers <= s.shards.troubled:
        return None
    done = s.job.total - s.job.waiting
    have = _verb(s.shards.workers, "has", "have")
    said = f"{_count(s.shards.workers, 'worker')} {have} {_count(s.shards.leased, 'shard')} in hand"
    said += f", {done:,} of {_photos(s.job.total)} {_verb(s.job.total, 'is', 'are')} done"
    seconds = (s.now - s.job.started_at).total_seconds() if s.job.started_at else 0
    rate = (s.job.tagged + s.job.count(ItemState.FAILED)) / max(seconds, 1)
    said += f", {rate:,.0f} photos/s since it began" if rate >= 1 else ""
    said += f", {_photos(s.retries.photos)} to be tried again" if s.retries.photos else ""
    said += _doubts(s.job)
    return said + (", and its source is still being listed" if s.listing else "")


def _doubts(job: Job) -> str:
    """How far a job is from being given up, where a share is set above which it is."""
    failed, succeeded = job.count(ItemState.FAILED), job.tagged  # as `ending.is_hopeless` has it
    if job.most_failed_share is None or not failed:
        return ""
    return f", {failed / (failed + succeeded):.1%} failed (above {job.most_failed_share:.1%} it is given up)"


def _limited(s: Situation) -> str | None:
    if not s.full or not (s.shards.ready or s.shards.queued or s.listing):
        return None
    first = s.full[0]
    whose = "all queues together" if first.queue == ALL else f"queue {first.queue}"
    name = "all" if first.queue == ALL else first.queue
    return (
        f"{whose} may have {_count(first.most, 'shard')} in hand at once and has no room, as {first.set_by} set it at "
        f"{_at(first.set_at, s.now)}; `pictograph queues unlimit {name}` lifts that"
    )


def _broken(s: Situation) -> str | None:
    if not s.breakers or not _to_tag(s) or (_empty(s.annotate) and s.breakers[0].next_attempt_at < s.now):
        return None
    first, others = s.breakers[0], len(s.breakers) - 1
    more = f" and on {_count(others, 'more machine')}" if others else ""
    return (
        f"model {s.job.model} does not work on {first.host}{more} since {_at(first.opened_at, s.now)} "
        f"({_bare(first.reason)}), and is tried again at {_at(first.next_attempt_at, s.now)}"
    )


def _nobody(s: Situation) -> str | None:
    if s.breakers or not (_empty(s.redriver) and _empty(s.ingest) and _empty(s.annotate)):
        return None
    return "neither a worker nor a redriver is alive; start all on this machine with `pictograph up`"


def _nobody_tags(s: Situation) -> str | None:
    if not _empty(s.annotate) or not _to_tag(s):
        return None
    return (
        f"{_photos(s.job.waiting)} {_verb(s.job.waiting, 'is', 'are')} to be tagged, and no annotate worker that "
        f"serves {s.job.model} is alive (queue {s.annotate.queue}); start one with "
        f"`pictograph worker annotate --model {s.job.model}`"
    )


def _troubled(s: Situation) -> str | None:
    return _waits_for(s.annotate, "annotate worker", s.now) if _to_tag(s) else None


def _starting(s: Situation) -> str | None:
    if s.annotate.alive or not s.annotate.starting or not _to_tag(s):
        return None
    return f"{_count(s.annotate.starting, 'annotate worker')} that {_verb(s.annotate.starting, 'serves', 'serve')} " + (
        f"{s.job.model} {_verb(s.annotate.starting, 'is', 'are')} starting"
    )


def _being_listed(s: Situation) -> str | None:
    held = s.listing is not None and s.listing.state is WorkState.LEASED and s.listing.holder_lives
    if s.listing is None or not held or _all_wait(s.ingest):
        return None
    return f"its source is being listed, {_photos(s.listing.listed)} so far"


def _nobody_lists(s: Situation) -> str | None:
    if not _empty(s.ingest) or s.listing is None:
        return None
    return (
        f"its source is to be listed, and no ingest worker is alive (queue {s.ingest.queue}); "
        "start one with `pictograph worker ingest`"
    )


def _no_redriver(s: Situation) -> str | None:
    if s.redriver.alive:
        return None
    return "no redriver is alive to hand out its work; start one with `pictograph redriver`"


def _redriver_waits(s: Situation) -> str | None:
    return _waits_for(s.redriver, "redriver", s.now)


def _lister_waits(s: Situation) -> str | None:
    return _waits_for(s.ingest, "ingest worker", s.now) if s.listing else None


def _listing_pauses(s: Situation) -> str | None:
    if s.listing is None or s.listing.next_attempt_at is None or s.listing.next_attempt_at <= s.now:
        return None
    return f"its source did not answer, and is asked again at {_at(s.listing.next_attempt_at, s.now)}"


def _abandoned(s: Situation) -> str | None:
    until, what = s.shards.abandoned_until, _count(s.shards.abandoned, "shard")
    if s.listing is not None and s.listing.state is WorkState.LEASED and not s.listing.holder_lives:
        until, what = s.listing.lease_until, "its listing"
    if until is None:
        return None
    return f"the worker that holds {what} fell silent, and the lease ends at {_at(until, s.now)}; then another takes it"


def _goes_behind(s: Situation) -> str | None:
    if not (s.shards.ahead and s.shards.ready + s.shards.queued):
        return None
    return (
        f"{_count(s.shards.ahead, 'shard')} of other jobs, of a higher priority or older, "
        f"{_verb(s.shards.ahead, 'goes', 'go')} first; {_count(s.annotate.alive, 'worker')} "
        f"{_verb(s.annotate.alive, 'serves', 'serve')} {s.job.model}"
    )


def _failing(s: Situation) -> str | None:
    if not s.shards.backing_off or s.shards.ready or s.shards.queued or s.shards.next_attempt_at is None:
        return None
    after = f" after {_count(s.shards.failures, 'failure')} in a row" if s.shards.failures else ""
    why = f" ({_bare(s.shards.error)})" if s.shards.error else ""
    what, when = _count(s.shards.backing_off, "shard"), _at(s.shards.next_attempt_at, s.now)
    return f"{what} {_verb(s.shards.backing_off, 'backs', 'back')} off until {when}{after}{why}"


def _retrying(s: Situation) -> str | None:
    if not s.retries.photos or s.retries.next_attempt_at is None or s.shards.ready or s.shards.queued:
        return None
    why = f" ({_bare(s.retries.message)})" if s.retries.message else ""
    wait, when = _verb(s.retries.photos, "waits", "wait"), _at(s.retries.next_attempt_at, s.now)
    return f"{_photos(s.retries.photos)} {wait} for another try{why}, the first until {when}"


def _published(s: Situation) -> str | None:
    if s.listing is not None and s.listing.state is WorkState.QUEUED:
        return f"its listing is published, to be taken by {_count(s.ingest.alive, 'ingest worker')}"
    if not s.shards.queued:
        return None
    what = f"{_count(s.shards.queued, 'shard')} {_verb(s.shards.queued, 'is', 'are')} published"
    return f"{what}, to be taken by {_count(s.annotate.alive, 'worker')}"


def _over(s: Situation) -> str | None:
    if s.listing is not None or s.job.waiting or s.shards.ready or s.shards.backing_off:
        return None
    return "all its photos have ended, and a redriver says so with its next look"


#: In order: the first that says something is the reason.
_REASONS: Sequence[tuple[str, Callable[[Situation], str | None]]] = (
    ("ended", _ended),
    ("cancelling", _ending),
    ("pausing", _pausing),
    ("window_closed", _outside),
    ("paused", _paused),
    ("locked", _locked),
    ("tagging", _tagging),
    ("nobody", _nobody),
    ("breaker_open", _broken),
    ("no_annotate_worker", _nobody_tags),
    ("annotate_worker_waits", _troubled),
    ("annotate_worker_starts", _starting),
    ("listing", _being_listed),
    ("no_ingest_worker", _nobody_lists),
    ("no_redriver", _no_redriver),
    ("redriver_waits", _redriver_waits),
    ("ingest_worker_waits", _lister_waits),
    ("listing_backs_off", _listing_pauses),
    ("lease_abandoned", _abandoned),
    ("limited", _limited),
    ("others_first", _goes_behind),
    ("shard_backs_off", _failing),
    ("photos_back_off", _retrying),
    ("published", _published),
    ("over", _over),
)
_MOVING = frozenset({"tagging", "listing", "pausing", "cancelling"})
_SOON = frozenset({"annotate_worker_starts", "published", "unpublished"})


def _to_tag(s: Situation) -> bool:
    return s.job.waiting > 0


def _empty(crew: Crew) -> bool:
    return not (crew.alive or crew.starting)


def _all_wait(crew: Crew) -> bool:
    return not _empty(crew) and len(crew.troubles) >= crew.alive + crew.starting


def _waits_for(crew: Crew, who: str, now: datetime) -> str | None:
    """What a crew waits for, if all of it waits."""
    if not _all_wait(crew):
        return None
    first = crew.troubles[0]
    where = f" on {first.host}" if first.host else ""
    return f"the {who}{where} waits since {_at(first.since, now)} ({_bare(first.trouble)})"


def _at(moment: datetime | None, now: datetime) -> str:
    """A moment, without its date if it is near."""
    if moment is None:
        return "an unknown time"
    near = abs(moment - now) < timedelta(hours=12)
    return f"{moment:%H:%M:%S} UTC" if near else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _bare(text: str) -> str:
    """A sentence of somebody else's, to be part of ours."""
    return " ".join(text.split()).rstrip(".")


def _photos(n: int) -> str:
    return _count(n, "photo")


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _verb(n: int, one: str, many: str) -> str:
    return one if n == 1 else many
