"""Level 1: at each of the named points, at its first to fifth passing, a process is killed; nothing may be missing.

Two lanes work through the cases of this run side by side; each test waits for its own.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import SimpleQueue

import pytest

from pictograph import stack
from pictograph.stack import Endpoints
from pipeline.crashpoints import Point
from tests.chaos.sweep import CASES, Case, Lane, Outcome

LANES = 2  # as many as the smallest machine has cores


@pytest.fixture(scope="module")
def sweep(
    endpoints: Endpoints,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
    figures: list[str],
) -> Iterator[Callable[[Case], Outcome]]:
    """The outcome of a case; all that are wanted in this run are under way."""
    wanted = [item.callspec.params["case"] for item in request.session.items if "sweep" in item.fixturenames]
    with ExitStack() as opened:
        free = SimpleQueue()
        second = opened.enter_context(stack.open(tmp_path_factory.mktemp("stack")))
        for servers in (endpoints, second):
            free.put(opened.enter_context(Lane.opened(servers, tmp_path_factory.mktemp("lane"))))
        pool = opened.enter_context(ThreadPoolExecutor(LANES))

        def run(case: Case) -> Outcome:
            lane = free.get()
            try:
                return lane.run(case)
            finally:
                free.put(lane)

        running = {case: pool.submit(run, case) for case in wanted}
        opened.callback(pool.shutdown, cancel_futures=True)
        yield lambda case: running[case].result()
        outcomes = [future.result() for future in running.values() if future.done() and not future.exception()]
    figures += report(outcomes)


def report(outcomes: list[Outcome]) -> Iterator[str]:
    """A line per point, and one for all."""
    for point in Point:
        mine = [outcome for outcome in outcomes if outcome.case.point is point]
        if mine:
            closed = ", ".join(str(outcome.closed) for outcome in mine)
            deaths, again = (sum(values) for values in zip(*((o.deaths, o.again) for o in mine), strict=True))
            yield f"{point:28} photos closed when killed: {closed}; deaths {deaths}, claimed again {again}"
    seconds = sorted(outcome.seconds for outcome in outcomes)
    yield f"{len(outcomes)} kills, {seconds[len(seconds) // 2]:.1f} s each (longest {seconds[-1]:.1f} s)"


def test_every_point_is_swept():
    assert len(set(CASES)) == 95  # 19 points, each at its first to fifth passing


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_kill_loses_nothing_and_counts_nothing_twice(case, sweep):
    assert sweep(case).case == case
