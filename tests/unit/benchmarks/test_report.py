from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.peers.harness import Answer
from benchmarks.race import Run
from benchmarks.report import agreement, cpu_shares, kind_of, report, running_order, table

KEYS = [f"race/user-0/small-{n:06}.jpg" for n in range(200)]
MORE = {"list_seconds": 1.0, "thread_cpu_seconds": {"merge": 0.5, "fetch": 1.0}, "process_cpu_seconds": 3.0}


def answers(wrong: int = 0, keys: Sequence[str] = KEYS) -> tuple[Answer, ...]:
    """One answer per photo, the first few of them others than those of everybody else."""
    return tuple(Answer(key=key, wnid="n1" if n < wrong else "n2", score=0.5) for n, key in enumerate(keys))


def run(contender: str, seconds: float, wrong: int = 0, error: str | None = None) -> Run:
    return Run(
        contender=contender,
        error=error,
        seconds=seconds,
        cpu_seconds=4.0,
        server_cpu_seconds={"postgres": 1.0},
        peak_mb=100.0,
        more=MORE if contender == "ours" else {},
        answers=() if error else answers(wrong),
    )


def test_every_other_round_runs_backwards():
    assert running_order(["a", "b"], 3) == [["a", "b"], ["b", "a"], ["a", "b"]]


def test_kind_is_read_from_the_name():
    assert kind_of("race/user-3/large-000007.jpg") == "large"


def test_agreement_is_the_share_of_the_same_first_labels():
    assert agreement(KEYS, answers(), answers(wrong=2)) == pytest.approx(0.99)  # 198 of 200


@pytest.mark.parametrize("given_up", [(), (Answer(key="u/small-0.jpg", wnid="", score=0.0),)])
def test_a_photo_without_an_answer_agrees_with_nothing(given_up: tuple[Answer, ...]):
    assert agreement(["u/small-0.jpg"], given_up, given_up) == 0


def test_photos_that_are_open_to_taste_are_not_compared():
    odd = [key.replace("small", "cmyk") for key in KEYS]
    assert agreement(KEYS + odd, answers() + answers(0, odd), answers() + answers(len(odd), odd)) == 1


def test_rows_that_are_missing_are_told():
    some = replace(run("timm", 1.0), answers=answers()[:150])
    assert report([some], KEYS)["contenders"]["timm"]["answered"] == {"small": "150 of 200"}


def test_ratios_are_taken_round_by_round():
    runs = [run("ours", 1.0), run("timm", 4.0), run("timm", 12.0), run("ours", 2.0)]
    assert report(runs, KEYS)["times_as_fast"] == {"timm": {"median": 5.0, "least": 4.0, "most": 6.0}}  # 4/1, 12/2


def test_no_speed_is_compared_with_who_says_otherwise():
    found = report([run("ours", 1.0), run("timm", 4.0, wrong=3)], KEYS)  # 98.5 %
    assert found["times_as_fast"] == {}
    assert "not compared" in table(found)


def test_a_contender_that_breaks_is_told():
    found = report([run("ours", 1.0), run("ray", 1.0, error="OSError: cut off")], KEYS)
    assert found["contenders"]["ray"]["errors"] == ["OSError: cut off"]
    assert "photos_per_s" not in found["contenders"]["ray"]
    assert "broke: OSError: cut off" in table(found)


def test_no_round_in_common_is_no_comparison():
    runs = [run("ours", 1.0), run("timm", 4.0, error="lost"), run("timm", 4.0), run("ours", 1.0, error="lost")]
    assert report(runs, KEYS)["times_as_fast"] == {}


def test_medians_are_of_the_runs_that_went_through():
    runs = [run("timm", 4.0), run("timm", 1.0, error="lost"), run("timm", 2.0)]
    figures = report(runs, KEYS)["contenders"]["timm"]
    assert figures["photos_per_s"] == 75  # the median of 50 and 100
    assert figures["cpu_s_per_1000_photos"] == 20  # 4 s for 200
    assert figures["server_cpu_s_per_1000_photos"] == {"postgres": 5}


def test_listing_is_told_apart():
    figures = report([run("ours", 1.0)], KEYS)["contenders"]["ours"]
    assert (figures["photos_per_s"], figures["photos_per_s_with_listing"]) == (200, 100)  # 200 / 1 s, 200 / (1 + 1) s


def test_cpu_shares_add_up():
    shares = cpu_shares([run("ours", 1.0)])
    # of 5 s: 1.5 in our threads, 3 - 1.5 in those of libraries, 4 - 3 in the children, 1 in the server
    assert shares == {"merge": 0.1, "fetch": 0.2, "model and client": 0.3, "decode children": 0.2, "postgres": 0.2}
