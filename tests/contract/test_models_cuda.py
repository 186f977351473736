"""The bookkeeping of the GPU's backend, run on the CPU: the same code without streams. `tests/gpu` has the rest."""

import dataclasses
import logging

import numpy as np
import pytest
from outcomes import same

from pipeline.errors import DeviceLost, ModelError
from taxonomy.decide import decide
from taxonomy.graph import load as load_taxonomy
from taxonomy.rollup import Rollup
from workers.models.canary import draw
from workers.models.registry import get

torch = pytest.importorskip("torch", reason="torch is not installed")

from workers.models import networks  # noqa: E402  (after the skip)
from workers.models.host import soften  # noqa: E402
from workers.models.torch_cuda import CudaClassifier, softened  # noqa: E402

SPEC = get("efficientnet-lite0")
CPU = torch.device("cpu")


class Memory:
    """A device whose memory takes so many photos at a time; past its capacity torch says what CUDA would."""

    def __init__(self, network, capacity):
        self.network, self.capacity, self.sizes = network, capacity, []

    def __call__(self, photos):
        self.sizes.append(len(photos))
        if len(photos) > self.capacity:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return self.network(photos)


def made(batch_photos=4, **options):
    return CudaClassifier(
        SPEC, networks.build(SPEC), SPEC.decision, CPU, batch_photos=batch_photos, **{"compiled": False, **options}
    )


@pytest.fixture(scope="module")
def shared():
    return made()


@pytest.fixture
def model(shared):
    """A classifier whose device a test may break."""
    network, batch = shared._network, shared.batch_photos
    yield shared
    shared._network, shared.batch_photos, shared._places = network, batch, []


@pytest.fixture(scope="module")
def photos():
    """Seven drawn pictures that differ."""
    drawn = [draw(canary.picture, 224) for canary in SPEC.canaries]
    return np.stack([*drawn, *(picture[:, ::-1] for picture in drawn), drawn[0][::-1] // 2])


def test_what_is_decided_is_what_the_host_decides_from_the_same_probabilities(model, photos):
    taxonomy = load_taxonomy(SPEC.taxonomy)
    probabilities = model.predict(photos)
    wanted = decide(Rollup(taxonomy).masses(probabilities), taxonomy, SPEC.decision)
    same(model.start(photos).decided(), wanted)
    assert (probabilities[:3].argmax(axis=1) == [canary.top for canary in SPEC.canaries]).all()


def test_a_short_batch_is_filled_up(model, photos):
    memory = model._network = Memory(model._network, 100)
    whole = model.predict(photos[:4])
    for number in (1, 2, 3):
        np.testing.assert_array_equal(model.predict(photos[:number]), whole[:number])
    assert set(memory.sizes) == {4}


def test_more_photos_than_a_batch_take_several_turns(model, photos):
    memory = model._network = Memory(model._network, 100)
    found = model.predict(photos)
    assert memory.sizes == [4, 4]
    np.testing.assert_array_equal(found, np.concatenate([model.predict(photos[:4]), model.predict(photos[4:])]))


def test_more_batches_in_flight_than_places_do_not_mix(model, photos):
    batches = [photos[at : at + 2] for at in range(6)] * 2
    pending = [model.start(batch) for batch in batches]
    for each, batch in zip(pending, batches, strict=True):
        same(each.decided(), model.start(batch).decided())


def test_no_photos_are_no_batch(model, photos):
    with pytest.raises(ValueError, match="at least one"):
        model.start(photos[:0])


@pytest.mark.parametrize(("capacity", "left"), [(2, 2), (1, 1), (3, 2)])
def test_what_does_not_fit_is_halved_when_it_is_started(model, photos, caplog, capacity, left):
    wanted = model.start(photos[:4]).decided()
    model._network = Memory(model._network, capacity)
    with caplog.at_level(logging.WARNING):
        same(model.start(photos[:4]).decided(), wanted)
    assert model.batch_photos == left
    assert sum("do not fit" in line for line in caplog.messages) == (2 if left == 1 else 1)


def test_a_batch_that_was_begun_before_the_halving_is_decided_too(model, photos):
    wanted = [model.start(photos[at : at + 3]).decided() for at in (0, 3)]
    begun = model.start(photos[:3])
    model._network = Memory(model._network, 2)
    halved = model.start(photos[3:6])
    same(begun.decided(), wanted[0])
    same(halved.decided(), wanted[1])


def test_what_does_not_fit_when_it_is_decided_is_run_again(model, photos, monkeypatch):
    wanted = model.start(photos[:4]).decided()
    real, calls = model._rollup.decide, []

    def short(probabilities, decision):
        calls.append(len(probabilities))
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(probabilities, decision)

    monkeypatch.setattr(model._rollup, "decide", short)
    same(model.start(photos[:4]).decided(), wanted)
    assert (calls, model.batch_photos) == ([4, 4], 2)


def test_a_model_of_which_not_one_photo_fits_is_not_to_be_trusted(model, photos):
    model._network = Memory(model._network, 0)
    with pytest.raises(ModelError, match="One photo is too much for the memory of cpu") as caught:
        model.start(photos[:4])
    assert not isinstance(caught.value, DeviceLost)


def test_the_halving_begins_when_it_is_made(monkeypatch):
    real = CudaClassifier._try_out

    def short(self):
        if self.batch_photos > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        real(self)

    monkeypatch.setattr(CudaClassifier, "_try_out", short)
    assert made(batch_photos=8).batch_photos == 2


def test_any_other_error_of_the_device_is_its_end(model, photos):
    def broken(_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    model._network = broken
    for use in (model.start, model.predict):
        with pytest.raises(DeviceLost, match=r"cpu does not work any more .*illegal memory"):
            use(photos[:2])


def test_without_a_compiler_the_plain_network_runs(monkeypatch, caplog, photos, shared):
    def compiled(_, **options):
        assert options["dynamic"] is False

        def missing(_):
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

        return missing

    monkeypatch.setattr(torch, "compile", compiled)
    with caplog.at_level(logging.WARNING):
        model = made(compiled=True)
    assert sum("runs uncompiled" in line for line in caplog.messages) == 1
    np.testing.assert_array_equal(model.predict(photos[:4]), shared.predict(photos[:4]))


def test_a_broken_device_is_no_missing_compiler(monkeypatch):
    def broken(self):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(CudaClassifier, "_try_out", broken)
    with pytest.raises(DeviceLost, match="device-side assert"):
        made(compiled=True)


def test_numbers_that_are_not_finite_are_refused(model, photos):
    plain = model._network

    def broken(pixels):
        logits = plain(pixels).clone()
        logits[1, 5] = float("nan")
        return logits

    model._network = broken
    with pytest.raises(ModelError, match="finite"):
        model.predict(photos[:3])
    with pytest.raises(ModelError, match="finite"):
        model.start(photos[:3]).decided()


def test_the_canaries_are_recognised(model):
    model.verify()


@pytest.mark.parametrize("noise_floor", [0.0, 0.1])
def test_softened_as_on_the_host(noise_floor):
    logits = torch.randn((9, 1000), generator=torch.Generator().manual_seed(4)) * 4
    spec = dataclasses.replace(SPEC, noise_floor=noise_floor)
    wanted = soften(logits.numpy(), spec.temperature, noise_floor)
    np.testing.assert_allclose(softened(logits, spec).numpy(), wanted, rtol=1e-5, atol=1e-9)
