"""The model's step: what is started when, what becomes of photos the model cannot take, and what of a broken one."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from pipeline.errors import DeviceLost, ModelError
from pipeline.records import Code, ItemState, PhotoTask
from taxonomy.build import from_hypernyms
from taxonomy.decide import Decision, decide
from taxonomy.rollup import Rollup
from taxonomy.synset import Synset
from workers.engine.classify import Classify
from workers.engine.flow import Channel
from workers.engine.slots import Photo, Slots
from workers.engine.timing import Stopwatch

LABELS = ["dog", "cat", "car", "cup"]


def flat():
    """All labels right under the root."""
    ids = {name: f"n{n:08d}" for n, name in enumerate(["entity", *LABELS])}
    synsets = {
        wnid: Synset(wnid=wnid, lemmas=(name,), name=name, gloss="", subject="noun.Tops", uses=1)
        for name, wnid in ids.items()
    }
    above = {ids[name]: [] if name == "entity" else [ids["entity"]] for name in ids}
    return from_hypernyms(name="flat", labels=[ids[name] for name in LABELS], synsets=synsets, hypernyms=above)


TAXONOMY = flat()
ROLLUP = Rollup(TAXONOMY)
NODES = np.arange(100, 100 + TAXONOMY.columns, dtype=np.int16)
POISON = 255


@dataclass
class Fake:
    """A model whose label is the brightness of the first pixel. Writes down what it is asked."""

    batch_photos: int = 4
    in_flight: int = 2
    healthy: bool = True
    asked: list = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    error: type = ModelError

    def start(self, pixels):
        assert 0 < len(pixels) <= self.batch_photos
        self.asked.append(("start", len(pixels)))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        return FakePending(self, pixels)

    def verify(self):
        self.asked.append(("verify", self.under_way))
        if not self.healthy:
            raise ModelError("the canaries are dead")


@dataclass
class FakePending:
    model: Fake
    pixels: np.ndarray

    def decided(self):
        self.model.asked.append(("decide", len(self.pixels)))
        self.model.under_way -= 1
        labels = self.pixels[:, 0, 0, 0]
        if (labels == POISON).any():
            raise self.model.error("not finite")
        probabilities = np.zeros((len(labels), len(LABELS)), np.float32)
        probabilities[np.arange(len(labels)), labels] = 1
        return decide(ROLLUP.masses(probabilities), TAXONOMY, Decision())


class Bed:
    """A classifying step with all its photos decoded before it begins."""

    def __init__(self, model, values, rows=4):
        buffers = [np.zeros((rows, 1, 1, 3), np.uint8) for _ in range(-(-len(values) // rows))]
        self.slots = Slots(buffers, lambda: rows)
        for n, value in enumerate(values):
            row = self.slots.take()
            row.pixels[...] = value
            self.slots.fill(row, Photo(task=task(n), sha256=bytes([n]), taken_at=None))
        self.slots.end()
        self.results = Channel()
        self.step = Classify(classifier=model, nodes=NODES, slots=self.slots, results=self.results, watch=Stopwatch())

    def run(self):
        self.step.run()
        return self.came()

    def came(self):
        self.results.close()
        return {result.task.photo_id: result for results in self.results for result in results}


def task(n):
    return PhotoTask(
        job_id=1, shard_id=1, photo_id=n, content_rev=1, bucket="s3://b", key="k", etag="e", size=1, version_id=None
    )


def label_of(result):
    return TAXONOMY.synsets[result.annotation.headline - 100].name


def test_each_photo_gets_the_result_of_its_own_pixels():
    values = [n % len(LABELS) for n in range(22)]
    results = Bed(Fake(), values).run()
    assert [label_of(results[n]) for n in range(22)] == [LABELS[value] for value in values]
    assert {(result.state, result.code) for result in results.values()} == {(ItemState.SUCCEEDED, Code.TAGGED)}
    assert [results[n].sha256 for n in range(22)] == [bytes([n]) for n in range(22)]


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_the_next_batch_is_started_before_the_one_before_it_is_decided(in_flight):
    model = Fake(in_flight=in_flight)
    Bed(model, [0] * 20).run()
    assert [step for step, _ in model.asked[:in_flight]] == ["start"] * in_flight
    assert model.asked[in_flight][0] == "decide"
    assert model.most_under_way == in_flight
    assert model.under_way == 0


def test_a_model_that_came_to_want_fewer_gets_a_batch_in_parts():
    model = Fake(batch_photos=3)
    results = Bed(model, [0, 1, 2, 3, 0, 1, 2], rows=7).run()
    assert [count for step, count in model.asked if step == "start"] == [3, 3, 1]
    assert [label_of(results[n]) for n in range(7)] == [*LABELS, *LABELS[:3]]


def test_photos_that_the_model_cannot_take_fail_alone():
    model = Fake()
    results = Bed(model, [0, POISON, 2, 3, 1, 1, 1, 1, POISON]).run()
    bad = {n for n, result in results.items() if result.code is Code.MODEL_ERROR}
    assert bad == {1, 8}
    assert len(results) == 9
    assert {result.state for n, result in results.items() if n not in bad} == {ItemState.SUCCEEDED}
    assert {under_way for step, under_way in model.asked if step == "verify"} == {0}  # examined with nothing under way


def test_a_model_that_fails_its_canaries_is_not_asked_again_and_what_it_works_on_is_waited_for():
    model = Fake(healthy=False)
    bed = Bed(model, [0, 0, 0, 0, POISON, 0, 0, 0, 1, 1, 1, 1])
    with pytest.raises(ModelError, match="canaries"):
        bed.run()
    assert set(bed.came()) == {0, 1, 2, 3, 8, 9, 10, 11}  # what it was asked before counts
    assert model.asked[-1] == ("verify", 0)


def test_a_lost_device_is_asked_nothing_more():
    model = Fake(error=DeviceLost)
    with pytest.raises(DeviceLost):
        Bed(model, [POISON] * 4).run()
    assert model.asked == [("start", 4), ("decide", 4)]


def test_another_error_ends_the_step_once_the_model_reads_no_more():
    model = Fake(error=RuntimeError)
    with pytest.raises(RuntimeError, match="not finite"):
        Bed(model, [POISON] * 12).run()
    assert [step for step, _ in model.asked] == ["start", "start", "decide", "decide"]
    assert model.under_way == 0
