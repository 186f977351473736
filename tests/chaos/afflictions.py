"""What a nemesis can do to a site: each kind of fault, how often in a full storm, and how it is inflicted.

`inflict` returns what it did, or None where there was nobody to do it to just now.
"""

import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from subprocess import Popen

import psutil

from tests.chaos.duplicates import Duplicator
from tests.chaos.proxy import Fault, Kind
from tests.chaos.servers import family, lives, send, wait_for
from tests.chaos.site import Site
from tests.chaos.victims import Crowd, Role

FROZEN_SECONDS = 10.0  # three leases
FROZEN_FOR_GOOD_SECONDS = 40.0  # twice the watchdog's bound: it is to be found and started anew
AT_WORK_SHARE = 0.8  # of the victims
BROKER_FROZEN_SECONDS = 40.0
PROXY_SECONDS = 6.0  # two leases
BURST_SECONDS = 6.0
DUPLICATING_SECONDS = 8.0
FULL_DISK_SECONDS = 8.0
STORM_SIGNALS = 3
STORM_PAUSE_SECONDS = 0.2
LATENCY_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What a fault did."""

    victims: tuple[int, ...] = ()  # process ids that are no more
    bereft: tuple[int, ...] = ()  # of those below them, which notice and go
    weight: int = 1
    seconds: float = 0.0  # how long it lasts
    end: Callable[[], None] | None = None  # what ends it, if it lasts


@dataclass(kw_only=True)
class Arena:
    """What a nemesis works on."""

    site: Site
    chance: random.Random
    crowd: Crowd
    restart: Callable[["Popen[bytes]"], None]  # a head of the crowd that was killed is to come back
    heads: Callable[[], Sequence["Popen[bytes]"]]
    holders: Callable[[], frozenset[int]]  # process ids of those who hold a lease
    sent_twice: int = 0  # messages
    fill_disk: Callable[[], Callable[[], None]] | None = None  # fills the database's disk, returns what frees it

    def one(self, role: Role) -> psutil.Process | None:
        """Somebody with this role; most often one who is at work."""
        found = self.crowd.find(role)
        if self.chance.random() < AT_WORK_SHARE:
            holders = self.holders()
            found = [process for process in found if process.pid in holders] or found
        return self.chance.choice(found) if found else None

    def heal(self) -> None:
        """Everything that lasts ends: proxies, frozen processes, dead servers."""
        for proxy in self.site.proxies.values():
            proxy.heal()
        for server in (self.site.postgres, self.site.valkey, self.site.s3):
            if server.runs:
                server.resume()
            else:
                server.start()
        send((process for process, _ in self.crowd.everyone()), signal.SIGCONT)


Inflict = Callable[[Arena], Effect | None]


@dataclass(frozen=True, kw_only=True)
class Affliction:
    """A kind of fault."""

    name: str
    place: str  # no two faults last at one place at the same time
    times: int  # in a full storm
    inflict: Inflict


def _kill(role: Role, arena: Arena) -> Effect | None:
    victim = arena.one(role)
    if victim is None:
        return None
    below = tuple(member.pid for member in family(victim.pid)[1:])
    send([victim], signal.SIGKILL)
    wait_for(lambda: not lives(victim))
    return Effect(victims=(victim.pid,), bereft=below)


def _kill_head(whole: bool, arena: Arena) -> Effect | None:
    """kill -9 of a supervisor: alone, so that its workers are told to stop, or with them, as by a loss of power."""
    supervisors = {process.pid for process in arena.crowd.find(Role.SUPERVISOR)}
    heads = [head for head in arena.heads() if head.pid in supervisors]
    if not heads:
        return None
    head = arena.chance.choice(heads)
    members = family(head.pid)
    roles = dict(arena.crowd.everyone())
    doomed = [member for member in members if member in roles] if whole else members[:1]
    send(doomed, signal.SIGKILL)
    wait_for(lambda: not any(map(lives, doomed)))
    arena.restart(head)
    return Effect(victims=tuple(member.pid for member in doomed), weight=len(doomed))


def _freeze(role: Role, seconds: float, arena: Arena) -> Effect | None:
    victim = arena.one(role)
    if victim is None:
        return None
    send([victim], signal.SIGSTOP)
    return Effect(seconds=seconds, end=lambda: send([victim], signal.SIGCONT))


def _storm(number: signal.Signals, arena: Arena) -> Effect | None:
    """Every worker of the site is told to go, several times over."""
    told = [p for p, role in arena.crowd.everyone() if role in (Role.ANNOTATE_PARENT, Role.INGEST_PARENT)]
    if not told:
        return None
    for _ in range(STORM_SIGNALS):
        send(told, number)
        time.sleep(STORM_PAUSE_SECONDS)
    return Effect(weight=len(told))


def _wipe_broker(arena: Arena) -> Effect | None:
    arena.site.valkey.wipe()
    return Effect()


def _flush_broker(arena: Arena) -> Effect | None:
    arena.site.valkey.flush()
    return Effect()


def _freeze_broker(arena: Arena) -> Effect | None:
    arena.site.valkey.pause()
    return Effect(seconds=BROKER_FROZEN_SECONDS, end=arena.site.valkey.resume)


def _stop_immediate(arena: Arena) -> Effect | None:
    arena.site.postgres.stop_immediate()
    arena.site.postgres.start()
    return Effect()


def _kill_postmaster(arena: Arena) -> Effect | None:
    arena.site.postgres.kill_postmaster()
    arena.site.postgres.start()
    return Effect()


def _kill_backend(arena: Arena) -> Effect | None:
    moment = time.time()
    if arena.site.postgres.kill_backend() is None:
        return None
    wait_for(lambda: arena.site.postgres.recovered_since(moment))
    arena.site.postgres.wait_until_it_answers()
    return Effect()


def _fill_disk(arena: Arena) -> Effect | None:
    if arena.fill_disk is None:
        return None
    free = arena.fill_disk()

    def end() -> None:
        free()
        if not arena.site.postgres.runs:  # it ends itself where it cannot write its log
            arena.site.postgres.start()
        arena.site.postgres.wait_until_it_answers()

    return Effect(seconds=FULL_DISK_SECONDS, end=end)


def _disturb(proxy: str, fault: Fault, seconds: float, arena: Arena) -> Effect | None:
    found = arena.site.proxies[proxy]
    found.inject(fault)
    return Effect(seconds=seconds, end=found.heal)


def _cut(proxy: str, arena: Arena) -> Effect | None:
    return Effect(weight=1) if arena.site.proxies[proxy].cut() else None


def _duplicate(arena: Arena) -> Effect | None:
    duplicator = Duplicator(arena.site.valkey.admin_url, arena.chance.random())
    duplicator.start()

    def end() -> None:
        duplicator.stop()
        arena.sent_twice += duplicator.repeated

    return Effect(seconds=DUPLICATING_SECONDS, end=end)


def _kills() -> list[Affliction]:
    times = {
        Role.DECODE_CHILD: 150,
        Role.ANNOTATE_CHILD: 66,
        Role.ANNOTATE_PARENT: 26,
        Role.INGEST_CHILD: 26,
        Role.INGEST_PARENT: 14,
        Role.REDRIVER: 32,
    }
    single = [
        Affliction(name=f"kill -9 {role}", place=f"kill {role}", times=n, inflict=partial(_kill, role))
        for role, n in times.items()
    ]
    return [
        *single,
        Affliction(name="kill -9 supervisor", place="supervisors", times=8, inflict=partial(_kill_head, False)),
        Affliction(name="kill -9 of all at once", place="supervisors", times=4, inflict=partial(_kill_head, True)),
    ]


def _freezes() -> list[Affliction]:
    times = {
        Role.ANNOTATE_CHILD: 14,
        Role.ANNOTATE_PARENT: 3,
        Role.DECODE_CHILD: 4,
        Role.INGEST_CHILD: 8,
        Role.REDRIVER: 4,
    }
    short = [
        Affliction(
            name=f"SIGSTOP {role}",
            place=f"freeze {role}",
            times=n,
            inflict=partial(_freeze, role, FROZEN_SECONDS),
        )
        for role, n in times.items()
    ]
    for_good = partial(_freeze, Role.ANNOTATE_CHILD, FROZEN_FOR_GOOD_SECONDS)
    return [*short, Affliction(name="SIGSTOP for good", place="freeze for good", times=4, inflict=for_good)]


def _lines() -> list[Affliction]:
    """Faults on the way to a server, which leave it alone."""
    shapes = (
        ("hang", 5, Fault(kind=Kind.HANG)),
        ("reset", 5, Fault(kind=Kind.RESET, share=0.2)),
        ("latency", 4, Fault(kind=Kind.LATENCY, seconds=LATENCY_SECONDS)),
    )
    found = []
    for proxy in ("postgres", "valkey", "s3"):
        for name, times, fault in shapes:
            inflict = partial(_disturb, proxy, fault, PROXY_SECONDS)
            found.append(Affliction(name=f"{proxy} {name}", place=f"line {proxy}", times=times, inflict=inflict))
        cut = partial(_cut, proxy)
        found.append(Affliction(name=f"{proxy} cut", place=f"line {proxy}", times=4, inflict=cut))
    for name, only in (("merges", "photo_result"), ("any", "")):
        fault = Fault(kind=Kind.DROP_COMMIT_REPLY, times=4, only=only)
        inflict = partial(_disturb, "postgres", fault, BURST_SECONDS)
        found.append(Affliction(name=f"COMMIT reply lost ({name})", place="line postgres", times=18, inflict=inflict))
    return found


def _s3() -> list[Affliction]:
    shapes = (
        (28, Fault(kind=Kind.S3_503, share=0.6, times=80)),
        (4, Fault(kind=Kind.S3_503, share=0.6, times=80, everything=True)),
        (16, Fault(kind=Kind.S3_500, share=0.5, times=50)),
        (8, Fault(kind=Kind.S3_STALL, share=0.1, times=4)),
        (14, Fault(kind=Kind.S3_SHORT_BODY, share=0.4, times=40)),
        (10, Fault(kind=Kind.S3_SHORT_LENGTH, share=0.4, times=40)),
        (10, Fault(kind=Kind.S3_WRONG_ETAG, share=0.3, times=30)),
        (14, Fault(kind=Kind.S3_RESET_MID_BODY, share=0.4, times=40)),
        (6, Fault(kind=Kind.S3_TRICKLE, share=0.1, times=4)),
        (8, Fault(kind=Kind.S3_BIT_FLIP, share=0.3, times=30)),
    )
    return [
        Affliction(
            name=fault.kind.value.replace("_", " ") + (" (all requests)" if fault.everything else ""),
            place="line s3",
            times=times,
            inflict=partial(_disturb, "s3", fault, BURST_SECONDS),
        )
        for times, fault in shapes
    ]


#: Every kind. A full storm has about 650 faults, one every two to three seconds.
KINDS: tuple[Affliction, ...] = (
    *_kills(),
    *_freezes(),
    *_lines(),
    *_s3(),
    Affliction(name="TERM to all workers", place="storm", times=6, inflict=partial(_storm, signal.SIGTERM)),
    Affliction(name="QUIT to all workers", place="storm", times=6, inflict=partial(_storm, signal.SIGQUIT)),
    Affliction(name="Redis killed and wiped", place="valkey", times=12, inflict=_wipe_broker),
    Affliction(name="Redis FLUSHALL", place="valkey", times=14, inflict=_flush_broker),
    Affliction(name="Redis SIGSTOP", place="valkey", times=2, inflict=_freeze_broker),
    Affliction(name="Postgres immediate stop", place="postgres", times=9, inflict=_stop_immediate),
    Affliction(name="kill -9 postmaster", place="postgres", times=9, inflict=_kill_postmaster),
    Affliction(name="kill -9 of a backend", place="postgres", times=9, inflict=_kill_backend),
    Affliction(name="full disk", place="postgres", times=1, inflict=_fill_disk),
    Affliction(name="every message twice, shuffled", place="messages", times=22, inflict=_duplicate),
)
