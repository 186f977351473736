"""Constants from verdicts, and constants for several targets by the same photos."""

from itertools import pairwise

import numpy as np
import pytest

from pictograph.evaluation.constants import TARGETS, Goal
from pictograph.evaluation.spoken import FEWEST, constants_from
from pipeline.errors import ConfigurationError
from pipeline.store.verdicts import JudgedPhoto
from pipeline.verdicts import Word
from taxonomy.calibrate import Outcomes, choose, ladder, outcomes, path
from taxonomy.decide import Decision, Kept, keep
from taxonomy.graph import Taxonomy, load
from taxonomy.rollup import Rollup
from taxonomy.truth import Truth, Verdict

BASE = Decision(rule="expected", lam=180_000, threshold=9_945)


@pytest.fixture(scope="module")
def imagenet() -> Taxonomy:
    return load()


def photo(taxonomy: Taxonomy, photo_id: int, said: str, kind: str = "confirm", certain: float = 0.9) -> JudgedPhoto:
    """A photo of a pug, the rest of it spread over all dogs, of which somebody said something."""
    probabilities = np.zeros((1, taxonomy.classes))
    dogs = sorted(taxonomy.label_sets[taxonomy.find("dog")[0]])
    probabilities[0, dogs] = (1 - certain) / len(dogs)
    probabilities[0, taxonomy.label_nodes.tolist().index(taxonomy.find("pug")[0])] += certain
    kept = keep(Rollup(taxonomy).masses(probabilities), BASE.keep_mass)
    word = Word(node=int(taxonomy.shown_as[taxonomy.find(said)[0]]), kind=kind, headline=None)  # type: ignore[arg-type]
    return JudgedPhoto(photo_id=photo_id, columns=kept.columns, masses=kept.masses, words=(word,))


def test_constants_show_as_much_as_people_vouched_for_and_no_more(imagenet: Taxonomy) -> None:
    goal = Goal(target=0.95)
    pugs = constants_from([photo(imagenet, n, "pug") for n in range(FEWEST)], imagenet, BASE, goal)
    dogs = constants_from([photo(imagenet, n, "dog") for n in range(FEWEST)], imagenet, BASE, goal)
    assert pugs.calibrated.bits > dogs.calibrated.bits > 3  # a pug is 9.97 bits, a dog 3.08
    assert pugs.calibrated.decision.lam < dogs.calibrated.decision.lam
    assert pugs.achieved == dogs.achieved == 1  # on these photos
    assert (pugs.words, pugs.rejected) == (FEWEST, 0)


def test_where_everything_was_rejected_nothing_is_shown(imagenet: Taxonomy) -> None:
    found = constants_from([photo(imagenet, n, "animal", "reject") for n in range(FEWEST)], imagenet, BASE, Goal())
    assert found.calibrated.nothing_shown
    assert found.rejected == FEWEST


def test_too_few_photos_are_refused_with_their_number(imagenet: Taxonomy) -> None:
    few = [photo(imagenet, n, "pug") for n in range(3)]
    with pytest.raises(ConfigurationError, match=rf"said something of 3 photos .* and {FEWEST} are needed"):
        constants_from(few, imagenet, BASE, Goal())


def test_what_is_not_known_to_be_right_is_wrong(imagenet: Taxonomy) -> None:
    right = np.zeros((2, imagenet.nodes), dtype=bool)
    right[1, 5] = True
    truth = Truth.known(right)
    assert truth.verdicts(np.array([5, 5], dtype=np.int32)).tolist() == [Verdict.WRONG, Verdict.RIGHT]
    assert truth.take([1]).verdicts(np.array([5], dtype=np.int32)).tolist() == [Verdict.RIGHT]
    assert truth.verdicts(np.array([-1, 4], dtype=np.int32)).tolist() == [Verdict.ABSTAINED, Verdict.WRONG]


@pytest.fixture(scope="module")
def measured(imagenet: Taxonomy) -> Outcomes:
    """Pugs of every certainty; those that the model is not certain of are beagles."""
    judged = [photo(imagenet, n, "pug", certain=0.2 + 0.79 * n / 150) for n in range(150)]
    kept_sizes = [len(each.columns) for each in judged]
    kept = Kept(
        columns=np.concatenate([each.columns for each in judged]),
        masses=np.concatenate([each.masses for each in judged]),
        ends=np.cumsum([0, *kept_sizes]),
    )
    wnids = [imagenet.synsets[imagenet.find("pug" if n > 40 else "beagle")[0]].wnid for n in range(150)]
    return outcomes(kept, Truth.of(imagenet, wnids), imagenet, path("expected"), BASE)


def test_each_rung_is_what_a_calibration_for_its_target_chooses(measured: Outcomes) -> None:
    rows = path("expected")
    rungs = ladder(measured, rows, TARGETS, "average", "shown")
    assert len(rungs) > 3
    for rung in rungs:
        row = choose(measured, rung.target, "average", "shown")
        assert (rung.lam, rung.threshold) == (int(rows.lam[row]), int(rows.threshold[row]))
        assert rung.bound <= 1 - rung.target + 1e-9
    assert all(low.lam <= high.lam and low.target < high.target for low, high in pairwise(rungs))


def test_a_target_that_so_few_photos_cannot_promise_has_no_rung(measured: Outcomes) -> None:
    few = measured.take(np.arange(100, 130))
    assert max(rung.target for rung in ladder(few, path("expected"), TARGETS, "average", "shown")) == 0.95
    silent = Outcomes(wrong=np.ones_like(measured.wrong), shown=np.zeros_like(measured.shown))
    assert ladder(silent, path("expected"), TARGETS) == ()
