"""What must be true of the ledger after a case of the sweep: each listed photo is accounted for, once and as it is."""

from collections import defaultdict
from dataclasses import dataclass, field

from pipeline.crashpoints import Point
from pipeline.records import Code, ItemState, JobState, WorkState
from tests.chaos import album
from tests.chaos.model import ColourModel
from tests.integration.ledger_helpers import Ledger

TAGGED = (ItemState.SUCCEEDED, Code.TAGGED)
COPY = (ItemState.DUPLICATE, Code.SAME_CONTENT)
DONE_BEFORE = (ItemState.SKIPPED_UNCHANGED, Code.NONE)


@dataclass(frozen=True, kw_only=True)
class Aftermath:
    """The ledger when nothing more is to be done. Each check raises AssertionError."""

    ledger: Ledger
    jobs: tuple[int, int]  # over the album, and over the photos of one user
    point: Point  # at which a process was killed
    model: ColourModel = field(default_factory=ColourModel)

    @property
    def erased(self) -> bool:
        """Whether a user was erased."""
        return self.point is Point.ERASE_MID

    def check(self) -> None:
        """All of it."""
        self.ledger.check()  # totals are a recount, both ways; counts are items; no open photo without a shard
        self.check_items()
        self.check_results()
        self.check_work()
        if self.erased:
            self.check_erased()

    def _kept(self) -> dict[str, bytes]:
        return {key: body for key, body in album.LISTED.items() if not (self.erased and f"/{album.ERASED}/" in key)}

    def check_items(self) -> None:
        """Each job's listed photos are closed, each as what it is, at the first attempt (what changed, at the second).

        A result that was stored does not come again: of the photos that both jobs have, one may find it done.
        """
        met: dict[str, set[tuple[ItemState, Code]]] = defaultdict(set)
        for job_id, place in zip(self.jobs, (album.PLACE, f"{album.PLACE}{album.TWICE}/"), strict=True):
            rows = self.ledger.all(
                "SELECT p.key, i.state, i.code, i.attempts FROM core.job_item i JOIN core.photo p USING (photo_id) "
                "WHERE job_id = :job",
                job=job_id,
            )
            found = {row.key: (ItemState(row.state), Code(row.code)) for row in rows}
            assert found.keys() == {key for key in self._kept() if key.startswith(place)}
            wrong = {key: end for key, end in found.items() if end not in _ends_of(key)}
            assert wrong == {}
            for key, end in found.items():
                met[key].add(end)
            often = {row.key: row.attempts for row in rows if row.attempts > 1 + (row.key == album.CHANGED)}
            assert often == {}
            job = self.ledger.job(job_id)
            assert (job.state, job.error) == (JobState.SUCCEEDED_WITH_ERRORS, None)
            assert job.total == sum(key.startswith(place) for key in album.LISTED)
        twins = set(album.TWINS)
        assert not [key for key, ends in met.items() if key not in twins and _end_of(key) not in ends]
        assert any(_end_of(key) in met[key] for key in twins)

    def check_results(self) -> None:
        """One result per photo that is there, for its present content, and with the tags of its own bytes."""
        rows = self.ledger.all(
            "SELECT p.key, p.content_rev = r.content_rev AS present, p.user_id = r.user_id AS its, u.name, r.outcome, "
            "r.headline, r.nodes, r.masses, r.tags FROM core.photo_result r JOIN core.photo p USING (photo_id) "
            "JOIN core.app_user u ON u.user_id = r.user_id"
        )
        assert all(row.present and row.its and f"/{row.name}/" in row.key for row in rows)
        found = {row.key: (row.outcome, row.headline, row.nodes, row.masses, row.tags) for row in rows}
        assert len(found) == len(rows)
        bodies = self._kept() | {album.CHANGED: album.LATER}
        del bodies[album.DELETED]
        assert found == {key: self._told(key, body) for key, body in bodies.items()}
        revisions = dict(map(tuple, self.ledger.all("SELECT key, content_rev FROM core.photo")))
        assert revisions == {key: 1 + (key == album.CHANGED) for key in self._kept()}

    def _told(self, key: str, body: bytes) -> tuple:
        if key == album.CORRUPT:
            return (Code.CORRUPT, None, [], [], [])
        note = self.model.annotation(body, self.ledger.registered.nodes)
        return (Code.TAGGED, note.headline, list(note.nodes), list(note.masses), list(note.tags))

    def check_work(self) -> None:
        """Nothing is open, held or blamed: one process was killed, so no shard has died more than once."""
        shards = [row for job_id in self.jobs for row in self.ledger.shards(job_id)]
        assert {row.state for row in shards} <= {WorkState.DONE, WorkState.SPLIT}
        split = [row for row in shards if row.state == WorkState.SPLIT]
        assert bool(split) == (self.point is Point.SPLIT_MID)
        assert not self.ledger.all(
            "SELECT photo_id FROM core.job_item WHERE shard_id = ANY (:split)", split=[row.shard_id for row in split]
        )
        assert all(row.deaths <= 1 for row in shards if row not in split)
        assert not [row for row in shards if row.failures or row.error or row.lease_owner]
        ranges = self.ledger.all("SELECT state, deaths FROM core.list_range")
        assert all(row.state == WorkState.DONE and row.deaths <= 1 for row in ranges)

    def check_erased(self) -> None:
        (user,) = self.ledger.all(
            "SELECT u.user_id, u.deleted_at, e.finished_at FROM core.app_user u JOIN core.erasure e USING (user_id) "
            "WHERE u.name = :user",
            user=album.ERASED,
        )
        assert user.deleted_at
        assert user.finished_at
        for table in ("photo", "photo_result", "user_category"):
            rows = self.ledger.one(f"SELECT count(*) FROM core.{table} WHERE user_id = :id", id=user.user_id)
            assert rows == 0, f"{rows} rows of an erased user in {table}"


def _ends_of(key: str) -> set[tuple[ItemState, Code]]:
    """How a photo may end: as what it is; as a copy; found done, where two jobs have it."""
    ends = {_end_of(key)}
    if key in album.TWINS:
        ends.add(COPY)  # or two workers have looked at both
    if f"/{album.TWICE}/" in key and key != album.DELETED:
        ends.add(DONE_BEFORE)
    return ends


def _end_of(key: str) -> tuple[ItemState, Code]:
    ends = {album.CORRUPT: (ItemState.FAILED, Code.CORRUPT), album.DELETED: (ItemState.FAILED, Code.GONE)}
    return ends.get(key, TAGGED)
