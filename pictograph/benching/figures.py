"""What follows from what was measured: rates, the bound, the efficiency. Pure.

The bound is what no arrangement of the same stages could pass:

    the cores do everything   cores / sum of the processor seconds that each stage, alone, takes for a photo
    the model has a GPU       the lowest of the stages' rates, each alone on the machine

and the efficiency is the rate end to end over it. Both are taken within a round, because a machine's speed drifts, and
the median of the rounds is told.

Processor seconds are those of all who take part: this process, the decode children, the servers on the same machine.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import median

STAGES = ("fetch", "decode", "classify", "merge")  # in their order; `merge` has the claim of a shard in it


@dataclass(frozen=True, kw_only=True, slots=True)
class Spent:
    """Processor seconds, by who spent them."""

    own: float = 0.0  # this process: fetching, the model on a CPU, formatting rows
    decoders: float = 0.0
    postgres: float = 0.0
    s3: float = 0.0
    others: float = 0.0  # the broker and the keeper of the servers

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, float]:
        """By name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def __sub__(self, earlier: "Spent") -> "Spent":
        before = earlier.parts()
        return Spent(**{name: seconds - before[name] for name, seconds in self.parts().items()})


@dataclass(frozen=True, kw_only=True, slots=True)
class Stretch:
    """Something that was done with photos, measured."""

    photos: int
    seconds: float  # on the clock
    cpu: Spent
    elsewhere: float | None = None  # processor seconds of processes that have no part in it; None: not to be told

    @property
    def rate(self) -> float:
        """Photos per second."""
        return self.photos / self.seconds

    @property
    def cpu_per_photo(self) -> float:
        """Processor seconds for one photo."""
        return self.cpu.total / self.photos


@dataclass(frozen=True, kw_only=True, slots=True)
class Round:
    """Everything once."""

    listing: Stretch
    stream: Stretch  # from the first claim to the last commit
    stages: Mapping[str, Stretch]  # each of STAGES, alone
    roll_up: Stretch  # a part of `classify`: from probabilities to what is stored
    threads: Mapping[
        str, float
    ]  # processor seconds of our own threads in the stream, by step; a runtime's are not in it
    starved_seconds: float  # of the stream, in which the model had nothing to do
    peak_memory_bytes: int  # of the stream: this process and the decode children
    differing_totals: int  # rows in which the totals differ from a recount

    @property
    def rate_with_listing(self) -> float:
        """Photos per second of listing and stream, one after the other."""
        return 1 / (1 / self.listing.rate + 1 / self.stream.rate)

    @property
    def rest_per_photo(self) -> float:
        """Processor seconds that the stream takes for a photo beside the stages; noise may make it negative."""
        return self.stream.cpu_per_photo - sum(stage.cpu_per_photo for stage in self.stages.values())

    @property
    def stages_share(self) -> float:
        """What the stages, alone, take of the stream's processor time."""
        return 1 - self.rest_per_photo / self.stream.cpu_per_photo

    @property
    def database_share(self) -> float:
        """Queue, roll-up and database in all processor time of the stream.

        Postgres as it was in the stream; our side of claiming and merging, and the roll-up, as they were alone.
        """
        merge = self.stages["merge"]
        ours = merge.cpu.own / merge.photos + self.roll_up.cpu_per_photo
        return (self.stream.cpu.postgres / self.stream.photos + ours) / self.stream.cpu_per_photo

    def bound(self, cores: float, *, shared: bool) -> float:
        """Photos per second that cannot be passed; `shared`: the model runs on the cores, too."""
        if shared:
            return cores / sum(stage.cpu_per_photo for stage in self.stages.values())
        return min(stage.rate for stage in self.stages.values())

    def efficiency(self, cores: float, *, shared: bool) -> float:
        """What end to end reaches of the bound."""
        return self.stream.rate / self.bound(cores, shared=shared)


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """A figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of at least one value."""
        found = sorted(values)
        return cls(median=median(found), low=found[0], high=found[-1])


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The rounds, summed up. Rates in photos per second, processor time in seconds for a photo."""

    cores: float
    shared: bool  # whether the model runs on the cores, too
    seconds: float  # that the stream took
    rate: Spread
    rate_with_listing: Spread
    ceilings: dict[str, Spread]  # of STAGES
    cpu_per_photo: dict[str, float]  # "end to end", each of STAGES, "roll up" (in "classify"), "rest", "listing"
    cpu_by_process: dict[str, dict[str, float]]  # of "end to end" and of each stage, by the names of `Spent`
    cpu_by_thread: dict[str, float]  # of "end to end", by step
    bound: Spread
    efficiency: Spread
    binds: str  # one of STAGES
    database_share: float
    stages_share: float  # of the stream's processor time; where the cores are shared, efficiency = this x busy
    busy: float  # share of the cores that the stream kept busy
    elsewhere: float | None  # share of the cores that other processes kept busy meanwhile
    starved: float  # share of the time in which the model had nothing to do
    peak_memory_bytes: int
    differing_totals: int


def summary(rounds: Sequence[Round], cores: float, *, shared: bool) -> Summary:
    """Of at least one round."""

    def over(figures: Iterable[float]) -> float:
        return Spread.of(figures).median

    ceilings = {name: Spread.of(a.stages[name].rate for a in rounds) for name in STAGES}
    cpu = {name: over(a.stages[name].cpu_per_photo for a in rounds) for name in STAGES}
    return Summary(
        cores=cores,
        shared=shared,
        seconds=over(a.stream.seconds for a in rounds),
        rate=Spread.of(a.stream.rate for a in rounds),
        rate_with_listing=Spread.of(a.rate_with_listing for a in rounds),
        ceilings=ceilings,
        cpu_per_photo={
            "end to end": over(a.stream.cpu_per_photo for a in rounds),
            **cpu,
            "roll up": over(a.roll_up.cpu_per_photo for a in rounds),
            "rest": over(a.rest_per_photo for a in rounds),
            "listing": over(a.listing.cpu_per_photo for a in rounds),
        },
        cpu_by_process={
            "end to end": _by_process([a.stream for a in rounds]),
            **{name: _by_process([a.stages[name] for a in rounds]) for name in STAGES},
        },
        cpu_by_thread={name: over(a.threads[name] / a.stream.photos for a in rounds) for name in rounds[0].threads},
        bound=Spread.of(a.bound(cores, shared=shared) for a in rounds),
        efficiency=Spread.of(a.efficiency(cores, shared=shared) for a in rounds),
        binds=max(STAGES, key=cpu.__getitem__) if shared else min(STAGES, key=lambda name: ceilings[name].median),
        database_share=over(a.database_share for a in rounds),
        stages_share=over(a.stages_share for a in rounds),
        busy=over(a.stream.cpu.total / (a.stream.seconds * cores) for a in rounds),
        elsewhere=_elsewhere(rounds, cores),
        starved=over(a.starved_seconds / a.stream.seconds for a in rounds),
        # What a stage of an earlier round left in memory is no part of a worker's: the first round's stream was alone.
        peak_memory_bytes=rounds[0].peak_memory_bytes,
        differing_totals=sum(a.differing_totals for a in rounds),
    )


def _by_process(stretches: Sequence[Stretch]) -> dict[str, float]:
    """Processor seconds for a photo, by who spent them."""
    return {name: median(a.cpu.parts()[name] / a.photos for a in stretches) for name in Spent().parts()}


def _elsewhere(rounds: Sequence[Round], cores: float) -> float | None:
    known = [a.stream.elsewhere / (a.stream.seconds * cores) for a in rounds if a.stream.elsewhere is not None]
    return Spread.of(known).median if known else None
