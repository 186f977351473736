"""From a folder of labelled photos to sets that were classified, to what was measured on them, to what a calibration
chose: the steps that the commands share, with their effects (files, decode children, the model)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pictograph.evaluation.degrade import Degradation
from pictograph.evaluation.measure import LabelledSet, Mistake, Plan, SetResult, measure_set
from pictograph.evaluation.predict import (
    Classifier,
    NumberedPhoto,
    Predicted,
    chosen,
    copies,
    decode_pool,
    degraded,
    predict,
)
from pictograph.evaluation.report import THUMBNAIL, Card, Section
from pictograph.evaluation.rules import all_rules
from pictograph.evaluation.truth import read_folder, truth_of
from pipeline.errors import SkipPhoto
from taxonomy.decide import Decision
from taxonomy.graph import Taxonomy
from taxonomy.graph import load as load_taxonomy
from taxonomy.lookup import titled
from taxonomy.nouns import load as load_nouns
from workers.decode.pool import DecodePool
from workers.models.load import load
from workers.models.spec import ModelSpec

CLEAN = "clean"  # the name of the set of photos as they are
LEAST_LEAF = 0.005  # labels below are not named beside a mistake

Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """Which photos are seen by which model, and how."""

    folder: Path
    spec: ModelSpec  # with its weights at hand
    degradations: tuple[Degradation, ...] = ()
    limit: int | None = None  # photos, evenly spread over the folder
    copies: int = 1  # of each photo, degraded differently
    decision: Decision | None = None  # instead of the one that ships with the model
    runtime: str = "auto"  # as in the settings
    models: Path | None = None  # the models' folder; see `workers.models.load.load`


@dataclass(frozen=True, kw_only=True, slots=True)
class Classified:
    """A set with the photos that it is about."""

    labelled: LabelledSet
    predicted: Predicted
    degradation: Degradation | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bench:
    """A model at work: ready to classify sets of one folder's photos."""

    spec: ModelSpec
    taxonomy: Taxonomy
    photos: tuple[NumberedPhoto, ...]
    left_out: int  # files of the folder that have no label
    model: Classifier
    pool: DecodePool

    def classify(self, degradation: Degradation | None, number: int, progress: Progress) -> Classified:
        """The photos as they are, or `number` degraded copies of each.

        Raises:
            ConfigurationError: none of the photos can be read, or one is labelled with what is no noun.
        """
        name = CLEAN if degradation is None else str(degradation)
        asked = list(self.photos) if degradation is None else copies(self.photos, number)
        progress(f"{name}: {len(asked):,} photos ...")
        predicted = predict(asked, self.model, self.pool, degradation)
        labelled = LabelledSet(
            name=name,
            probabilities=predicted.probabilities,
            truth=truth_of([seen.photo.wnid for seen in predicted.photos], self.taxonomy, load_nouns()),
            photo=np.array([seen.place for seen in predicted.photos], dtype=np.int32),
            unreadable=len(predicted.unreadable),
        )
        return Classified(labelled=labelled, predicted=predicted, degradation=degradation)


@contextmanager
def bench(request: Request) -> Iterator[Bench]:
    """The request's model over the request's photos; everything that is cheap to refuse is refused first.

    Raises:
        ConfigurationError: there is no such folder, its labels cannot be used, or torch is not installed.
    """
    spec = request.spec
    folder = read_folder(request.folder)
    taxonomy = load_taxonomy(spec.taxonomy)
    truth_of(folder.wnids, taxonomy, load_nouns())
    model = load(spec, spec.decision, runtime=request.runtime, models=request.models)
    model.verify()
    with decode_pool(spec.target) as pool:
        yield Bench(
            spec=spec if request.decision is None else replace(spec, decision=request.decision),
            taxonomy=taxonomy,
            photos=tuple(chosen(folder.photos, request.limit)),
            left_out=folder.left_out,
            model=model,
            pool=pool,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """What was measured."""

    spec: ModelSpec
    taxonomy: Taxonomy
    left_out: int
    sections: tuple[Section, ...]  # the photos as they are first

    @property
    def results(self) -> tuple[SetResult, ...]:
        """The sets' numbers."""
        return tuple(section.result for section in self.sections)


def study(request: Request, plan: Plan, progress: Progress) -> Study:
    """Measure the model, the request's decision and every rule; one set's probabilities are held at a time.

    Raises:
        ConfigurationError: see `bench` and `Bench.classify`.
        BadScores, ModelError: the model's output is no probability distribution.
    """
    with bench(request) as at_work:
        rules = all_rules(at_work.taxonomy, at_work.spec.decision)
        sections = []
        for degradation in (None, *request.degradations):
            seen = at_work.classify(degradation, request.copies, progress)
            result = measure_set(seen.labelled, at_work.taxonomy, at_work.spec.decision, rules, plan)
            cards = tuple(_card(mistake, seen, at_work) for mistake in result.mistakes)
            sections.append(Section(result=result, cards=cards))
    return Study(spec=at_work.spec, taxonomy=at_work.taxonomy, left_out=at_work.left_out, sections=tuple(sections))


def _card(mistake: Mistake, seen: Classified, at_work: Bench) -> Card:
    taxonomy, numbered = at_work.taxonomy, seen.predicted.photos[mistake.photo]
    return Card(
        jpeg=_thumbnail(numbered, seen.degradation, at_work.pool),
        file=numbered.photo.path.name,
        true=_true_name(mistake.photo, numbered.photo.name, seen.labelled, taxonomy),
        said=titled(mistake.shown, taxonomy),
        mass=mistake.mass,
        leaves=tuple((taxonomy.synsets[node].name, mass) for node, mass in mistake.leaves if mass >= LEAST_LEAF),
    )


def _thumbnail(numbered: NumberedPhoto, degradation: Degradation | None, pool: DecodePool) -> bytes:
    """A small JPEG of what the model saw; empty where the photo can no longer be read."""
    try:
        data = numbered.photo.path.read_bytes()
        shown = data if degradation is None else degraded(data, degradation, numbered.seed)
        return pool.thumbnail(shown, THUMBNAIL, cover=False)
    except (OSError, SkipPhoto):
        return b""


def _true_name(photo: int, called: str, labelled: LabelledSet, taxonomy: Taxonomy) -> str:
    """The true synset by name; where the taxonomy has none, as the labels call it, with what lies just above it."""
    truth = labelled.truth
    row = int(truth.which[photo])
    wnid, right = truth.wnids[row], np.flatnonzero(truth.right[row])
    closest = int(right[np.argmax(taxonomy.bits[right])])
    exact = [node for node in right.tolist() if taxonomy.synsets[node].wnid == wnid]
    if exact:
        return titled(exact[0], taxonomy)
    return f"{f'{called} ({wnid})' if called else wnid}, a kind of {taxonomy.synsets[closest].name}"
