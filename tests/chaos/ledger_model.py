"""What the ledger must say, in plain Python: dictionaries, and one method for each thing that happens to it.

Choices that are the ledger's to make (numbers of photos and shards, which photos share a shard) are taken over from it;
everything else follows from what happened.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.records import SEEN, Code, ItemState, Lease, PhotoTask, WorkState

OPEN_ITEMS = (ItemState.PENDING, ItemState.RETRY)
OPEN_SHARDS = (WorkState.PENDING, WorkState.QUEUED, WorkState.LEASED)
NOT_KEPT = (Code.GONE, Code.INFRASTRUCTURE, Code.FORBIDDEN)  # no result is stored of these


@dataclass(frozen=True)
class Result:
    """What is stored of a photo."""

    rev: int  # of the content
    decision: int
    outcome: Code
    tags: tuple[int, ...]

    @property
    def rank(self) -> tuple[int, int, bool]:
        """The greater one wins."""
        return self.rev, self.decision, self.outcome in SEEN


@dataclass
class Photo:
    """A photo of the ledger."""

    key: str
    owner: str
    etag: str
    rev: int = 1
    gone: bool = False
    result: Result | None = None


@dataclass
class Item:
    """What a job does with a photo."""

    state: ItemState = ItemState.PENDING
    code: Code = Code.NONE
    shard: int | None = None


@dataclass
class Shard:
    """A shard; whoever holds `epoch` while it is leased has it."""

    job: int
    state: WorkState = WorkState.PENDING
    epoch: int = 0
    started: bool = False
    deaths: int = 0
    delayed: bool = False


@dataclass
class Job:
    """A job that has begun."""

    listing: Lease | None
    missing: set[int] = field(default_factory=set)
    ended: bool = False
    paused: bool = False
    cancelling: bool = False  # its end is ordered, and nobody has wound it up yet
    unchanged: int = 0
    erased: int = 0  # photos that are counted and of which there is no item


@dataclass(frozen=True)
class Said:
    """A worker's word on one photo."""

    task: PhotoTask
    state: ItemState
    code: Code
    tags: tuple[int, ...] = ()


@dataclass
class Expected:
    """What a merge must report."""

    stored: int = 0
    closed: Counter[tuple[ItemState, Code]] = field(default_factory=Counter)
    finished: set[int] = field(default_factory=set)


@dataclass
class Model:
    """The whole ledger, of one model."""

    photos: dict[int, Photo] = field(default_factory=dict)
    items: dict[tuple[int, int], Item] = field(default_factory=dict)  # by job and photo
    shards: dict[int, Shard] = field(default_factory=dict)
    jobs: dict[int, Job] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)  # users that are erased, or about to be

    # ---- listings

    def listed(self, job: int, lease: Lease, page: Mapping[str, tuple[str, str]], ids: Mapping[str, int]) -> set[int]:
        """A listing met all of `page`, the whole source; returns the photos that its job has to do."""
        here = self.jobs[job] = Job(listing=lease)
        by_key = {photo.key: number for number, photo in self.photos.items()}
        met = set()
        for key, (owner, etag) in page.items():
            if owner not in self.hidden:
                met.add(self._meet(ids[key], key, owner, etag))
            else:
                here.erased += 1
                if key in by_key and self.photos[by_key[key]].owner != owner:
                    self._vanish(by_key[key])
        for other in self.jobs.values():
            other.missing -= met
        here.missing = {number for number, photo in self.photos.items() if not photo.gone and number not in met}
        due = {number for number in met if self._is_due(self.photos[number])}
        here.unchanged = len(met - due)
        return due

    def _meet(self, number: int, key: str, owner: str, etag: str) -> int:
        photo = self.photos.setdefault(number, Photo(key, owner, etag))
        photo.rev += photo.gone or photo.etag != etag
        photo.owner, photo.etag, photo.gone = owner, etag, False
        return number

    def _is_due(self, photo: Photo) -> bool:
        return photo.result is None or photo.result.rev < photo.rev

    def end_listing(self, job: int) -> None:
        """What nobody met is gone."""
        for number in self.jobs[job].missing:
            self._vanish(number)
        self.jobs[job].missing = set()
        self.jobs[job].listing = None

    def _vanish(self, number: int) -> None:
        self.photos[number].gone, self.photos[number].result = True, None

    def placed(self, job: int, shard_of: Mapping[int, int]) -> None:
        """These photos of the job are pending, in these shards."""
        for number, shard in shard_of.items():
            self.items[job, number] = Item(shard=shard)
            self.shards.setdefault(shard, Shard(job))

    # ---- shards

    def claimable(self, shard: Shard) -> bool:
        """Whether who asks for it by name gets it."""
        return shard.state in (WorkState.PENDING, WorkState.QUEUED) and not shard.delayed and self.goes_on(shard.job)

    def goes_on(self, job: int) -> bool:
        """Whether anything of the job may be begun."""
        found = self.jobs[job]
        return not (found.ended or found.paused or found.cancelling)

    def claim(self, lease: Lease) -> None:
        """The shard was given away."""
        shard = self.shards[lease.work_id]
        shard.state, shard.started = WorkState.LEASED, False
        shard.epoch += 1

    def holds(self, lease: Lease) -> bool:
        """Whether the lease is still good."""
        shard = self.shards[lease.work_id]
        return shard.state is WorkState.LEASED and shard.epoch == lease.epoch

    def pending(self, shard: int) -> set[int]:
        """The photos of a shard that are to be done."""
        return {n for (_, n), item in self.items.items() if item.shard == shard and item.state is ItemState.PENDING}

    def retries(self) -> dict[int, set[int]]:
        """By job that goes on: the photos that wait."""
        waiting: dict[int, set[int]] = {}
        for (job, number), item in self.items.items():
            if item.state is ItemState.RETRY and self.goes_on(job):
                waiting.setdefault(job, set()).add(number)
        return waiting

    # ---- results

    def merge(self, words: Sequence[Said], leases: Iterable[Lease], decision: int) -> Expected:
        """A worker's words are written down; returns what the merge must report."""
        expected = Expected()
        final = [(said, *self._verdict(said)) for said in words if said.task.photo_id in self.photos]
        for said, state, code in final:
            if state in (ItemState.SUCCEEDED, ItemState.FAILED) and code not in NOT_KEPT:
                expected.stored += self._store(said, code, decision)
        for said, state, code in final:
            if code is Code.GONE:
                self._vanish(said.task.photo_id)
            self._close(said.task, state, code, expected)
        for lease in leases:
            if self.holds(lease) and not self.pending(lease.work_id):
                self.shards[lease.work_id].state = WorkState.DONE
                expected.finished.add(lease.work_id)
        return expected

    def _verdict(self, said: Said) -> tuple[ItemState, Code]:
        photo = self.photos[said.task.photo_id]
        if photo.owner in self.hidden:
            return ItemState.ERASED, Code.NONE
        if photo.gone:
            return ItemState.FAILED, Code.GONE
        if photo.rev != said.task.content_rev:
            return ItemState.RETRY, Code.NONE
        return said.state, said.code

    def _store(self, said: Said, code: Code, decision: int) -> bool:
        photo = self.photos[said.task.photo_id]
        result = Result(said.task.content_rev, decision, code, said.tags)
        if photo.result is not None and photo.result.rank >= result.rank:
            return False
        photo.result = result
        return True

    def _close(self, task: PhotoTask, state: ItemState, code: Code, expected: Expected) -> None:
        item = self.items.get((task.job_id, task.photo_id))
        if item is None or item.state not in (OPEN_ITEMS if state is not ItemState.RETRY else (ItemState.PENDING,)):
            return
        item.state, item.code = state, code
        if state is ItemState.RETRY:
            item.shard = None
        else:
            expected.closed[state, code] += 1

    def note_changed(self, task: PhotoTask, etag: str) -> None:
        """A worker found other bytes than those that were listed."""
        photo = self.photos.get(task.photo_id)
        if photo is not None and photo.rev == task.content_rev and photo.etag != etag:
            photo.etag = etag
            photo.rev += 1

    # ---- ends

    def erase(self, user: str) -> None:
        """Nothing of the user is left, and jobs say so."""
        self.hidden.add(user)
        numbers = {number for number, photo in self.photos.items() if photo.owner == user}
        for job, number in [key for key in self.items if key[1] in numbers]:
            del self.items[job, number]
            self.jobs[job].erased += 1
        for job in self.jobs.values():
            job.missing -= numbers
        for number in numbers:
            del self.photos[number]

    def pause(self, job: int) -> None:
        """Nothing more of a job is begun; what was published is taken back."""
        self.jobs[job].paused = True
        for shard in self.shards.values():
            if shard.job == job and shard.state is WorkState.QUEUED:
                shard.state = WorkState.PENDING

    def give_up(self, job: int) -> None:
        """A job ends where it stands."""
        self.jobs[job].paused = self.jobs[job].cancelling = False
        self.jobs[job].ended, self.jobs[job].listing, self.jobs[job].missing = True, None, set()
        for (of, _), item in self.items.items():
            if of == job and item.state in OPEN_ITEMS:
                item.state, item.code = ItemState.CANCELLED, Code.NONE
        for shard in self.shards.values():
            if shard.job == job and shard.state in OPEN_SHARDS:
                shard.state = WorkState.CANCELLED

    def over(self) -> set[int]:
        """The jobs that have nothing left to do."""
        busy = {shard.job for shard in self.shards.values() if shard.state in OPEN_SHARDS}
        busy |= {job for (job, _), item in self.items.items() if item.state in OPEN_ITEMS}
        return {n for n, job in self.jobs.items() if self.goes_on(n) and job.listing is None and n not in busy}
