"""Ports: one block of neighbours per home, claimed for as long as its keeper lives."""

import random
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.errors import ServiceDown

HOST = "127.0.0.1"
SIZE = 10  # ports in a block
# Below Linux's range for outgoing connections (from 32,768), so that none of those can sit on a port of ours while
# the servers are down.
BLOCKS = range(20_000, 32_000, SIZE)
TRIES = 100


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one home, in the order of its block."""

    postgres: int
    valkey: int
    s3: int
    s3_grpc: int  # from here on: SeaweedFS's inner ports
    master: int
    master_grpc: int
    volume: int
    volume_grpc: int
    filer: int
    filer_grpc: int

    @classmethod
    def block(cls, first: int) -> "Ports":
        """The block that starts at `first`."""
        return cls(*range(first, first + SIZE))


@dataclass(frozen=True, slots=True)
class Claim:
    """A block that no other keeper takes while `holder` is open."""

    ports: Ports
    holder: socket.socket


def claim(previous: int | None) -> Claim:
    """Claim the previous block if it is free, else a random one that is. Raises ServiceDown."""
    for first in candidates(previous, random.choice):
        holder = _hold(first)
        if holder is None:
            continue
        if all(_is_free(port) for port in range(first, first + SIZE)):
            return Claim(Ports.block(first), holder)
        holder.close()
    raise ServiceDown(
        f"No {SIZE} neighbouring ports are free from {BLOCKS.start} to {BLOCKS.stop}; end what uses them."
    )


def candidates(previous: int | None, choose: Callable[[range], int]) -> Iterator[int]:
    """The blocks to try, in order; endless luck is not assumed, so there are TRIES of them."""
    if previous is not None and previous in BLOCKS:
        yield previous
    for _ in range(TRIES):
        yield choose(BLOCKS)


def _hold(first: int) -> socket.socket | None:
    """Bind an abstract Unix socket named after the block: the kernel frees it with us, and it spans the same network
    namespace as the ports, so two keepers that start at once cannot both see the block as free."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        holder.bind(f"\0pictograph-ports-{first}")
    except OSError:
        holder.close()
        return None
    return holder


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger from before do not count
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
