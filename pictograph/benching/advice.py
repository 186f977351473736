"""The sentence at the end: what is odd about the figures, or what would make them better. Pure."""

from pictograph.benching.figures import Summary

QUIET_SHARE = 0.05  # of the cores; what others take beyond it spoils the figures
READABLE_SHARE = 0.98  # of the photos
LONG_ENOUGH_SECONDS = 4.0  # a shorter stream is mostly filled and emptied
GOOD_EFFICIENCY = 0.9
BUSY_SHARE = 0.9  # of the cores; below it somebody waits

_ON_SHARED_CORES = {
    "fetch": "Reading from S3 takes most of the processor time: put the S3 server on another machine, or take smaller "
    "photos.",
    "decode": "Decoding takes most of the processor time: more cores or smaller photos help, a faster model hardly.",
    "classify": "The model takes most of the processor time: more cores, a GPU or a smaller model help.",
    "merge": "The database takes most of the processor time: put Postgres on another machine.",
}
_BESIDE_A_GPU = {
    "fetch": "Fetching binds: raise PICTOGRAPH_FETCH_THREADS, and look at the network and at S3.",
    "decode": "Decoding binds, and the GPU waits for it: more cores, or smaller photos.",
    "classify": "The GPU binds, as it should: a smaller model, or more GPUs with a worker each.",
    "merge": "The database binds: give Postgres faster disks, or a machine of its own.",
}


def advice(found: Summary, *, readable: float) -> str:
    """One or a few sentences; `readable` is the share of the photos that could be read."""
    if found.differing_totals:
        return f"{found.differing_totals} rows of the totals differ from a recount: that must never be; report it."
    said = [*_odd(found, readable), (_ON_SHARED_CORES if found.shared else _BESIDE_A_GPU)[found.binds]]
    return " ".join(said)


def _odd(found: Summary, readable: float) -> list[str]:
    odd = []
    if found.elsewhere is not None and found.elsewhere > QUIET_SHARE:
        odd.append(
            f"Other programs kept {found.elsewhere:.0%} of the cores busy meanwhile; measure again when they are idle."
        )
    if readable < READABLE_SHARE:
        odd.append(f"Only {readable:.0%} of the photos could be read; the others cost less, and flatter the figures.")
    if found.seconds < LONG_ENOUGH_SECONDS:
        odd.append(f"{found.seconds:.1f} s are too short to tell much; measure more photos, or more --copies of them.")
        return odd
    waiting = found.shared and found.busy + (found.elsewhere or 0) < BUSY_SHARE
    if found.efficiency.median < GOOD_EFFICIENCY and waiting:
        odd.append(
            f"The cores were idle for {1 - found.busy - (found.elsewhere or 0):.0%} of the time: raise "
            "PICTOGRAPH_FETCH_THREADS or PICTOGRAPH_DECODE_PROCESSES."
        )
    return odd
