"""The history of a storm: who claimed, released, ended and stored what, written by triggers of a schema of its own.

The product knows nothing of it. The triggers write within the transactions that they watch, so what was rolled back has
left nothing, and what was committed is there after every crash.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

from sqlalchemy import text

from pipeline.records import Code, ItemState, WorkState
from pipeline.store.session import Database

_STATES = {
    WorkState.PENDING: "pending",
    WorkState.QUEUED: "queued",
    WorkState.LEASED: "claimed",
    WorkState.DONE: "done",
    WorkState.SPLIT: "split",
    WorkState.CANCELLED: "cancelled",
}
_NAMED = " ".join(f"WHEN {int(state)} THEN '{name}'" for state, name in _STATES.items())


def _watched(table: str, key: str, extra: str) -> str:
    """A trigger for one kind of work: every change of its state or its epoch."""
    return f"""
    CREATE FUNCTION chaos.note_{table}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO chaos.event (work, id, what, epoch, owner, deaths{extra and ", photos"})
        VALUES ('{table}', new.{key}, CASE new.state {_NAMED} END, new.lease_epoch,
                coalesce(new.lease_owner, old.lease_owner), new.deaths{extra});
        RETURN NULL;
    END $$;
    CREATE TRIGGER chaos AFTER UPDATE ON core.{table} FOR EACH ROW
        WHEN ((old.state, old.lease_epoch) IS DISTINCT FROM (new.state, new.lease_epoch))
        EXECUTE FUNCTION chaos.note_{table}();"""


_SCHEMA = f"""
CREATE SCHEMA chaos;
CREATE TABLE chaos.event (
    number bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    work text NOT NULL, id bigint NOT NULL, what text NOT NULL, epoch bigint NOT NULL, owner text,
    deaths int NOT NULL, photos int);
CREATE TABLE chaos.offered (model_id smallint NOT NULL, photo_id bigint NOT NULL, content_rev int NOT NULL);
CREATE TABLE chaos.stored (
    at timestamptz NOT NULL DEFAULT clock_timestamp(), model_id smallint NOT NULL, photo_id bigint NOT NULL,
    content_rev int NOT NULL, decision_rev int NOT NULL, outcome smallint NOT NULL);
{_watched("shard", "shard_id", ", new.photos")}
{_watched("list_range", "range_id", "")}

CREATE FUNCTION chaos.note_offered() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.offered VALUES (new.model_id, new.photo_id, new.content_rev);
    RETURN new;
END $$;
CREATE TRIGGER chaos_offered BEFORE INSERT ON core.photo_result FOR EACH ROW EXECUTE FUNCTION chaos.note_offered();

CREATE FUNCTION chaos.note_stored() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO chaos.stored (model_id, photo_id, content_rev, decision_rev, outcome)
    SELECT model_id, photo_id, content_rev, decision_rev, outcome FROM written;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_inserted AFTER INSERT ON core.photo_result REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.note_stored();
CREATE TRIGGER chaos_updated AFTER UPDATE ON core.photo_result REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.note_stored();
"""


def begin(database: Database) -> None:
    """From now on everything is written down."""
    with database.transaction() as connection:
        connection.execute(text(_SCHEMA))


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that became of a shard or a range."""

    at: float  # seconds since the epoch, by the database's clock, which is this machine's
    work: str  # "shard" or "list_range"
    id: int
    what: str  # the state it came to
    epoch: int
    owner: str | None
    deaths: int
    photos: int | None

    def __str__(self) -> str:
        return f"{self.at:.3f} {self.work} {self.id} {self.what} epoch {self.epoch} by {self.owner}"


@dataclass(frozen=True, kw_only=True)
class History:
    """All that was written down."""

    events: Sequence[Event]  # in the order of their numbers
    merges: Sequence[float]  # when results were stored, ascending
    offered: int  # results that merges brought
    stored: int  # of them, those that won
    worked: int  # photos that jobs have worked on; a photo of two jobs counts twice

    @classmethod
    def read(cls, database: Database) -> "History":
        """What there is by now."""
        with database.transaction() as connection:
            rows = connection.execute(
                text("""SELECT extract(epoch FROM at)::float8 AS at, work, id, what, epoch, owner, deaths, photos
                        FROM chaos.event ORDER BY number""")
            ).mappings()
            events = [Event(**row) for row in rows]
            merges = connection.execute(
                text("SELECT extract(epoch FROM at)::float8 FROM chaos.stored GROUP BY at ORDER BY at")
            ).scalars()
            offered, stored, worked = connection.execute(
                text(f"""SELECT (SELECT count(*) FROM chaos.offered), (SELECT count(*) FROM chaos.stored),
                                (SELECT coalesce(sum(photos), 0) FROM core.job_count
                                 WHERE state IN ({ItemState.SUCCEEDED}, {ItemState.FAILED})
                                    OR code = {Code.SAME_CONTENT})::bigint
                                + (SELECT coalesce(sum(items), 0) FROM core.erasure)::bigint""")
            ).one()
            return cls(
                events=events,
                merges=list(merges),
                offered=offered,
                stored=stored,
                worked=worked,
            )

    def next_merge(self, moment: float) -> float | None:
        """When results were stored for the first time after it."""
        place = bisect_right(self.merges, moment)
        return self.merges[place] if place < len(self.merges) else None

    def claimed_twice(self) -> list[str]:
        """Epochs of a piece of work that two workers claimed; each as a sentence."""
        owners: dict[tuple[str, int, int], set[str | None]] = defaultdict(set)
        for event in self.events:
            if event.what == "claimed":
                owners[event.work, event.id, event.epoch].add(event.owner)
        return [
            f"{work} {id_} was claimed at epoch {epoch} by {sorted(map(str, whom))}"
            for (work, id_, epoch), whom in owners.items()
            if len(whom) > 1
        ]

    def held_by(self, process: int, moment: float) -> list[Event]:
        """What the worker in this process held at a moment: its claims that nothing had ended by then."""
        return [claim for claim, end in self._claims.get(process, ()) if claim.at <= moment < end]

    def taken_up(self, claim: Event) -> float | None:
        """When somebody took up what a claim had left: claimed it again, or found it done or to be split."""
        for event in self._by_work[claim.work, claim.id]:
            if event.at > claim.at and event.what in ("claimed", "done", "split", "cancelled"):
                return event.at
        return None

    def of(self, work: str, id_: int) -> list[Event]:
        """Everything that became of one piece of work."""
        return self._by_work[work, id_]

    @cached_property
    def _by_work(self) -> dict[tuple[str, int], list[Event]]:
        found: dict[tuple[str, int], list[Event]] = defaultdict(list)
        for event in self.events:
            found[event.work, event.id].append(event)
        return found

    @cached_property
    def _claims(self) -> dict[int, list[tuple[Event, float]]]:
        """By process: what it claimed, and when that ended."""
        found: dict[int, list[tuple[Event, float]]] = defaultdict(list)
        for events in self._by_work.values():
            for event, following in zip_longest(events, events[1:]):
                worker = process_of(event.owner)
                if event.what == "claimed" and worker is not None:
                    found[worker].append((event, following.at if following else float("inf")))
        return found


def process_of(owner: str | None) -> int | None:
    """The process id in a worker's name (`workers.ledger.worker_id`)."""
    return None if owner is None else int(owner.rsplit(":", 2)[1])
