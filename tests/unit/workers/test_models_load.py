"""Which backend is taken, how many photos a batch has, and what becomes of logits: no model needed."""

import dataclasses
import sys

import numpy as np
import pytest

from pipeline.errors import ConfigurationError, ModelError
from taxonomy.decide import decide
from taxonomy.graph import load as load_taxonomy
from taxonomy.rollup import Rollup
from workers.models import load as loading
from workers.models.host import HostJudge, soften
from workers.models.load import Backend, automatic_gpu_batch, choose
from workers.models.registry import get

SPEC = get("efficientnet-lite0")
GIB = 1 << 30


@pytest.mark.parametrize(
    ("runtime", "gpu", "openvino", "expected"),
    [
        ("auto", True, True, Backend.CUDA),
        ("auto", True, False, Backend.CUDA),
        ("auto", False, True, Backend.OPENVINO),
        ("auto", False, False, Backend.TORCH),
        ("torch", True, True, Backend.CUDA),
        ("torch", False, True, Backend.TORCH),
        ("openvino", True, True, Backend.OPENVINO),
        ("openvino", False, True, Backend.OPENVINO),
    ],
)
def test_the_best_backend_that_is_there(runtime, gpu, openvino, expected):
    assert choose(runtime, gpu=gpu, openvino=openvino) is expected


def test_what_is_not_installed_is_named():
    with pytest.raises(ConfigurationError, match="OpenVINO is not installed; pip install"):
        choose("openvino", gpu=True, openvino=False)


def test_without_torch_nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(loading, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match="torch is not installed"):
        loading.load(SPEC, SPEC.decision)


def test_nobody_looks_for_a_gpu_that_is_not_wanted(monkeypatch):
    def refuse():
        raise AssertionError("it would import torch")

    monkeypatch.setattr(loading, "_has_gpu", refuse)
    monkeypatch.setattr(loading, "find_spec", lambda name: name == "torch" or None)
    with pytest.raises(ConfigurationError, match="OpenVINO is not installed"):
        loading.load(SPEC, SPEC.decision, runtime="openvino")


def test_without_a_driver_torch_is_not_asked_for_a_gpu(monkeypatch):
    def refuse(_):
        raise OSError("no such library")

    monkeypatch.setattr(loading.ctypes, "CDLL", refuse)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails
    assert not loading._has_gpu()


@pytest.mark.parametrize(
    ("free", "size", "expected"),
    [
        (139 * GIB, 224, 512),  # 2,478 would fit into the half
        (15 * GIB, 224, 256),  # 267
        (15 * GIB, 448, 64),  # 66
        (GIB, 224, 16),  # 17
        (0, 224, 16),  # what is too much is halved when it is tried
    ],
)
def test_the_batch_of_a_gpu_is_a_power_of_two_that_fits(free, size, expected):
    assert automatic_gpu_batch(free, size) == expected


def logits(rows=5):
    return np.random.default_rng(5).normal(scale=4, size=(rows, 1000)).astype(np.float32)


@pytest.mark.parametrize("noise_floor", [0.0, 0.1])
def test_softened_as_in_float64(noise_floor):
    exact = np.exp(logits().astype(np.float64) / 0.75)
    exact /= exact.sum(axis=1, keepdims=True)
    exact = np.maximum(exact - noise_floor / 1000, 0)
    exact /= exact.sum(axis=1, keepdims=True)
    found = soften(logits(), 0.75, noise_floor)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-9)


def test_large_logits_do_not_overflow():
    found = soften(np.float32([[1e4, 0.0], [-1e4, -1e4]]), 1.0, 0.0)
    np.testing.assert_array_equal(found, [[1, 0], [0.5, 0.5]])


def test_a_photos_outcome_is_that_of_its_probabilities():
    taxonomy = load_taxonomy(SPEC.taxonomy)
    found = HostJudge(SPEC, SPEC.decision).decided(logits())
    masses = Rollup(taxonomy).masses(soften(logits(), SPEC.temperature, SPEC.noise_floor))
    wanted = decide(masses, taxonomy, SPEC.decision)
    np.testing.assert_array_equal(found.kept.masses, wanted.kept.masses)
    np.testing.assert_array_equal(found.winner, wanted.winner)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    broken = logits()
    broken[2, 7] = bad
    judge = HostJudge(dataclasses.replace(SPEC, name="mine"), SPEC.decision)
    for use in (judge.decided, judge.probabilities):
        with pytest.raises(ModelError, match=r"mine .* not finite"):
            use(broken)
