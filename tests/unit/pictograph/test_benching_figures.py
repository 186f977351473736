"""Rates, bounds and efficiencies, with their arithmetic beside them."""

from dataclasses import replace

import pytest

from pictograph.benching.advice import advice
from pictograph.benching.figures import STAGES, Round, Spent, Spread, Stretch, Summary, summary


def stretch(seconds: float, photos: int = 100, elsewhere: float | None = 0.0, **cpu: float) -> Stretch:
    return Stretch(photos=photos, seconds=seconds, cpu=Spent(**cpu), elsewhere=elsewhere)


def one_round(stream_seconds: float = 0.6, **changed: object) -> Round:
    """100 photos on two cores; the stages take 0.1 + 0.3 + 0.4 + 0.2 = 1.0 processor seconds."""
    made = Round(
        listing=stretch(0.2, own=0.05, postgres=0.05),
        stream=stretch(stream_seconds, own=0.6, decoders=0.3, postgres=0.15, s3=0.05),
        stages={
            "fetch": stretch(0.1, own=0.05, s3=0.05),
            "decode": stretch(0.2, decoders=0.3),
            "classify": stretch(0.25, own=0.4),
            "merge": stretch(0.3, own=0.05, postgres=0.15),
        },
        roll_up=stretch(0.01, photos=200, own=0.02),
        threads={"feed": 0.02},
        starved_seconds=0.15,
        peak_memory_bytes=7,
        differing_totals=0,
    )
    return replace(made, **changed)


def summed(*rounds: Round, shared: bool = True) -> Summary:
    return summary(rounds or (one_round(),), 2, shared=shared)


def test_where_all_share_the_cores_the_bound_is_cores_over_processor_time():
    assert one_round().bound(2, shared=True) == pytest.approx(200)  # 2 / (1.0 / 100)
    assert one_round(0.6).efficiency(2, shared=True) == pytest.approx(100 / 0.6 / 200)


def test_beside_a_gpu_the_bound_is_the_lowest_rate():
    assert one_round().bound(2, shared=False) == pytest.approx(100 / 0.3)
    assert summed(shared=False).binds == "merge"
    assert summed(shared=True).binds == "classify"  # it takes the most processor time


def test_a_stage_measured_with_more_photos_counts_per_photo():
    stages = {**one_round().stages, "classify": stretch(0.5, photos=200, own=0.8)}
    assert one_round(stages=stages).bound(2, shared=True) == pytest.approx(200)


def test_the_rest_is_what_the_stream_takes_beside_its_stages():
    assert one_round().rest_per_photo == pytest.approx(0.001)  # (1.1 - 1.0) / 100


def test_the_databases_share_has_postgres_our_side_of_it_and_the_roll_up():
    # Postgres 1.5 ms in the stream, 0.5 ms of ours in merge, 0.1 ms of roll-up, of 11 ms.
    assert one_round().database_share == pytest.approx(2.1 / 11)


def test_listing_counts_per_photo_of_the_stream():
    assert one_round().rate_with_listing == pytest.approx(100 / 0.8)
    listing = stretch(0.4, photos=200)
    assert one_round(listing=listing).rate_with_listing == pytest.approx(100 / 0.8)


def test_a_summary_takes_the_median_and_keeps_the_extremes():
    found = summed(one_round(0.5), one_round(0.8), one_round(1.0))
    assert found.rate == Spread(median=125, low=100, high=200)
    assert found.efficiency == Spread(median=0.625, low=0.5, high=1.0)
    assert found.busy == pytest.approx(1.1 / (0.8 * 2))


def test_an_efficiency_is_of_its_own_round():
    """A round on a machine of half the speed is as efficient as the others."""
    slow = one_round(
        1.2,
        stages={
            name: replace(stage, seconds=2 * stage.seconds, cpu=Spent(own=2 * stage.cpu.total))
            for name, stage in one_round().stages.items()
        },
    )
    found = summed(one_round(0.6), slow)
    assert found.efficiency.low == pytest.approx(found.efficiency.high)


def test_memory_is_that_of_the_first_round_and_differences_add_up():
    rounds = [one_round(peak_memory_bytes=n, differing_totals=n) for n in (5, 9, 2)]
    found = summed(*rounds)
    assert (found.peak_memory_bytes, found.differing_totals) == (5, 16)


def test_time_spent_by_others_is_a_share_of_the_cores_or_unknown():
    busy = one_round(stream=stretch(0.5, elsewhere=0.3, own=0.6))
    assert summed(busy).elsewhere == pytest.approx(0.3)
    assert summed(one_round(stream=stretch(0.5, elsewhere=None, own=0.6))).elsewhere is None


def test_the_efficiency_on_shared_cores_is_the_stages_share_of_what_was_busy():
    found = summed()
    assert found.stages_share == pytest.approx(1.0 / 1.1)
    assert found.efficiency.median == pytest.approx(found.stages_share * found.busy)


def test_the_time_in_which_the_model_waits_is_a_share():
    assert summed().starved == pytest.approx(0.15 / 0.6)


def test_processor_time_is_told_of_everything():
    found = summed()
    assert set(found.cpu_per_photo) == {"end to end", *STAGES, "roll up", "rest", "listing"}
    assert set(found.cpu_by_process) == {"end to end", *STAGES}
    for what, by in found.cpu_by_process.items():
        assert sum(by.values()) == pytest.approx(found.cpu_per_photo[what])
    assert found.cpu_by_thread == {"feed": pytest.approx(0.0002)}


def test_spent_subtracts_by_part():
    assert Spent(own=3, s3=1) - Spent(own=1, s3=1) == Spent(own=2)


# ---- the sentence


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("shared", [True, False])
def test_every_binding_stage_has_its_sentence(stage: str, shared: bool):
    found = replace(summed(shared=shared), seconds=9, binds=stage, efficiency=Spread.of([0.95]))
    others = {advice(replace(found, binds=name), readable=1.0) for name in STAGES if name != stage}
    assert advice(found, readable=1.0) not in others


def test_totals_that_differ_come_before_everything():
    assert advice(replace(summed(), differing_totals=3), readable=1.0).startswith("3 rows of the totals differ")


def test_what_is_odd_is_said():
    found = replace(summed(), seconds=9, efficiency=Spread.of([0.5]), busy=0.6, elsewhere=0.1)
    said = advice(found, readable=0.5)
    assert "Other programs kept 10% of the cores busy" in said
    assert "Only 50% of the photos" in said
    assert "idle for 30% of the time" in said


def test_what_is_as_it_should_be_is_not_said():
    found = replace(summed(), seconds=9, efficiency=Spread.of([0.95]), busy=0.97, elsewhere=0.01)
    assert advice(found, readable=1.0).startswith("The model takes most")


def test_a_short_stream_is_not_blamed_for_waiting():
    said = advice(replace(summed(), seconds=0.6, busy=0.3), readable=1.0)
    assert said.startswith("0.6 s are too short")
    assert "idle" not in said
