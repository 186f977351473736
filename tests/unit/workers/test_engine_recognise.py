"""What is asked of the ledger before decoding: for many photos at once, and never so that anybody waits for it."""

import threading
from dataclasses import dataclass, field

import pytest

from pipeline.errors import ServiceDown
from pipeline.records import Annotation, Code, ItemState, PhotoTask
from pipeline.store.catalogue import Registered
from pipeline.store.contents import Known
from taxonomy.decide import Decision
from workers.engine import recognise
from workers.engine.flow import Channel
from workers.engine.intake import Fetched
from workers.engine.recognise import Recognise
from workers.engine.twins import Twins

NOTE = Annotation(nodes=(1, 2), masses=(10_000, 9_000), tags=(2,), headline=2)


@dataclass
class Ledger:
    """Says of the contents in `known` what they are."""

    known: dict[bytes, Known] = field(default_factory=dict)
    asked: list[dict[int, bytes]] = field(default_factory=list)
    away: bool = False

    def run(self, work):
        if self.away:
            raise ServiceDown("away")
        return work(self)


class Bed:
    """The step with its channels; `run` has it work off what was fetched."""

    def __init__(self, monkeypatch, ledger):
        def find(connection, _registered, contents):
            connection.asked.append(contents)
            return {photo: connection.known[sha] for photo, sha in contents.items() if sha in connection.known}

        monkeypatch.setattr(recognise, "find", find)
        self.fetched, self.tasks = Channel(), Channel()
        self.let_go = []
        self.stop = threading.Event()
        self.step = Recognise(
            database=ledger,
            registered=Registered(model_id=1, name="small", decision=Decision(), nodes=None),
            taxonomy=None,
            twins=Twins(self.tasks),
            fetched=self.fetched,
            fresh=Channel(),
            results=Channel(),
            let_go=lambda task: self.let_go.append(task.photo_id),
            stopping=self.stop.is_set,
        )

    def fetch(self, *contents):
        for n, sha256 in enumerate(contents):
            task = PhotoTask(
                job_id=1, shard_id=1, photo_id=n, content_rev=1, bucket="s3://b", key=str(n), etag="e", size=1,
                version_id=None,
            )  # fmt: skip
            self.fetched.put(Fetched(task=task, data=b"x", sha256=sha256))

    def run(self):
        self.fetched.close()
        self.step.run()
        self.step.fresh.close()
        self.step.results.close()
        fresh = [photo.task.photo_id for photo in self.step.fresh]
        return fresh, [result for results in self.step.results for result in results]


@pytest.fixture
def ledger():
    return Ledger()


@pytest.fixture
def bed(monkeypatch, ledger):
    return Bed(monkeypatch, ledger)


def known(outcome=Code.TAGGED, revision=1):
    return Known(photo_id=99, decision_rev=revision, outcome=outcome, annotation=NOTE, taken_at=None)


def test_the_ledger_is_asked_once_for_many_and_once_for_each_content(bed, ledger):
    ledger.known = {b"b": known()}
    bed.fetch(b"a", b"b", b"a", b"c", b"b")
    fresh, results = bed.run()
    assert ledger.asked == [{0: b"a", 1: b"b", 3: b"c"}]
    assert fresh == [0, 3]
    assert sorted(bed.let_go) == [1, 2, 4]  # those that are not decoded
    assert [(r.task.photo_id, r.state, r.code, r.outcome, r.annotation) for r in results] == [
        (1, ItemState.DUPLICATE, Code.SAME_CONTENT, Code.TAGGED, NOTE)
    ]
    copies = bed.step.twins.settled(results)[1:]
    assert [(r.task.photo_id, r.state) for r in copies] == [(4, ItemState.DUPLICATE)]


def test_a_photo_may_be_the_one_that_is_known(bed, ledger):
    """It is no duplicate of itself; its job is told what it was told before."""
    ledger.known = {b"a": Known(photo_id=0, decision_rev=1, outcome=Code.TAGGED, annotation=NOTE, taken_at=None)}
    bed.fetch(b"a")
    _, (result,) = bed.run()
    assert (result.state, result.code) == (ItemState.SUCCEEDED, Code.TAGGED)


def test_many_photos_are_asked_for_in_bounded_questions(bed, ledger, monkeypatch):
    monkeypatch.setattr(recognise, "MOST_PHOTOS", 10)
    bed.fetch(*(bytes([n]) for n in range(25)))
    fresh, _ = bed.run()
    assert fresh == list(range(25))
    assert [len(contents) for contents in ledger.asked] == [10, 10, 5]


def test_a_ledger_that_is_away_costs_an_inference_and_no_time(bed, ledger):
    ledger.away = True
    bed.fetch(b"a", b"b")
    assert bed.run() == ([0, 1], [])


def test_a_stop_passes_over_everything(bed, ledger):
    bed.stop.set()
    bed.fetch(b"a", b"a")
    assert bed.run() == ([], [])
    assert bed.let_go == [0, 1]
    assert ledger.asked == []
