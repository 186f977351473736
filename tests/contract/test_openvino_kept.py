"""OpenVINO's graphs are converted once, by a process of their own, and kept beside the models."""

import dataclasses
import json
import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from threading import Thread

import numpy as np
import pytest

from pipeline.errors import ConfigurationError, ModelError
from workers.models import openvino_kept as kept
from workers.models.load import load
from workers.models.registry import get

pytest.importorskip("torch", reason="torch is not installed")
if find_spec("openvino") is None:
    pytest.skip("OpenVINO is not installed", allow_module_level=True)

SPEC = get("efficientnet-lite0")

_WORKER = """
import sys
from pathlib import Path
import workers.tasks.annotate
from workers.models.load import load
from workers.models.registry import get
spec = get("efficientnet-lite0")
model = load(spec, spec.decision, runtime="openvino", models=Path(sys.argv[1]))
model.verify()
print([name for name in ("torch", "torchvision", "timm") if name in sys.modules])
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models' folder that holds the graph of lite0."""
    folder = tmp_path_factory.mktemp("models")
    kept.graph_of(SPEC, folder, rounded=True)
    return folder


@pytest.fixture
def never(monkeypatch):
    """Converting is an error."""

    def refuse(*_, **__):
        raise AssertionError("it was there already")

    monkeypatch.setattr(kept, "_convert", refuse)


@pytest.fixture
def written(monkeypatch):
    """Every folder into which a graph was converted, with what stands for one."""
    folders = []

    def convert(_, folder, *, rounded):
        folders.append(folder)
        (folder / kept.GRAPH).write_text("graph")
        (folder / kept.WEIGHTS).write_text("weights")

    monkeypatch.setattr(kept, "_convert", convert)
    return folders


def test_a_worker_that_finds_a_graph_imports_no_torch(models):
    done = subprocess.run(
        [sys.executable, "-c", _WORKER, str(models)], check=False, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    imported, kilobytes = done.stdout.splitlines()
    assert imported == "[]"
    assert int(kilobytes) < 400 * 1024  # with torch it would be 900


def test_what_is_kept_says_what_is_converted_here_says(models):
    noise = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    here, there = (load(SPEC, SPEC.decision, runtime="openvino", models=folder) for folder in (None, models))
    np.testing.assert_array_equal(there.predict(noise), here.predict(noise))


def test_a_graph_is_converted_once(models, never):
    assert kept.graph_of(SPEC, models, rounded=True).is_file()
    same = dataclasses.replace(SPEC, name="mine", canaries=())
    assert kept.graph_of(same, models, rounded=True).is_file()


def test_it_is_named_by_all_that_it_follows_from(monkeypatch):
    name = kept.name_of(SPEC, rounded=True)
    assert kept.name_of(SPEC, rounded=False) != name
    assert kept.name_of(dataclasses.replace(SPEC, std=(1.0, 1.0, 1.0)), rounded=True) != name
    monkeypatch.setattr(kept, "_SOURCE", kept._SOURCE[:-1])
    assert kept.name_of(SPEC, rounded=True) != name
    monkeypatch.undo()
    monkeypatch.setattr(kept, "version", lambda _: "0")
    assert kept.name_of(SPEC, rounded=True) != name


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / kept.WEIGHTS).write_text("weightz"),
        lambda place: (place / kept.GRAPH).unlink(),
        lambda place: (place / kept.SUMS).write_text("{"),
        lambda place: (place / kept.SUMS).write_text("[]"),
        lambda place: (place / kept.SUMS).unlink(),
        lambda place: [path.unlink() for path in place.iterdir()] + [(place / kept.SUMS).write_text("{}")],
    ],
)
def test_a_damaged_graph_is_made_anew(damage, written, tmp_path):
    place = kept.graph_of(SPEC, tmp_path, rounded=True).parent
    kept.graph_of(SPEC, tmp_path, rounded=True)
    assert len(written) == 1
    damage(place)
    assert kept.graph_of(SPEC, tmp_path, rounded=True).read_text() == "graph"
    assert len(written) == 2
    kept.graph_of(SPEC, tmp_path, rounded=True)
    assert len(written) == 2


def test_many_at_once_convert_once(written, tmp_path):
    threads = [Thread(target=kept.graph_of, args=(SPEC, tmp_path), kwargs={"rounded": True}) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(written) == 1


def test_what_a_killed_process_left_is_cleared_away(written, tmp_path):
    name = kept.name_of(SPEC, rounded=True)
    left = tmp_path / kept.FOLDER / f"{name}-abc"
    left.mkdir(parents=True)
    (left / kept.GRAPH).write_text("half")
    kept.graph_of(SPEC, tmp_path, rounded=True)
    assert sorted(path.name for path in (tmp_path / kept.FOLDER).iterdir()) == [name, f"{name}.lock"]


def test_a_failure_leaves_nothing_behind(tmp_path):
    wrong = dataclasses.replace(SPEC, weights=dataclasses.replace(SPEC.weights, sha256="0" * 64))
    with pytest.raises(ModelError, match="not the weights file that was pinned"):
        kept.graph_of(wrong, tmp_path, rounded=True)
    absent = dataclasses.replace(SPEC, weights=dataclasses.replace(SPEC.weights, uri="/nowhere.pth"))
    with pytest.raises(ConfigurationError, match="no weights file /nowhere"):
        kept.graph_of(absent, tmp_path, rounded=True)
    assert {path.suffix for path in (tmp_path / kept.FOLDER).iterdir()} == {".lock"}


def test_a_network_that_cannot_be_converted_is_said_to_be_one(monkeypatch, tmp_path):
    answer = json.dumps(["CannotConvert", "no such operation"]).encode()
    done = subprocess.CompletedProcess([], kept.REFUSED, b"some noise\n" + answer + b"\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(kept.CannotConvert, match="no such operation"):
        kept.graph_of(SPEC, tmp_path, rounded=True)
    with pytest.raises(ConfigurationError, match="PICTOGRAPH_RUNTIME=torch"):
        load(SPEC, SPEC.decision, runtime="openvino", models=tmp_path)


def test_the_process_that_converts_is_told_no_credentials(monkeypatch):
    monkeypatch.setenv("PICTOGRAPH_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert "secret" not in str(kept._environment())
    assert kept._environment()["PATH"] == os.environ["PATH"]


def test_where_nothing_can_be_kept_it_is_converted_here(monkeypatch, tmp_path, caplog):
    (tmp_path / kept.FOLDER).write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        load(SPEC, SPEC.decision, runtime="openvino", models=tmp_path).verify()
    assert "is converted here, and not kept" in caplog.text
    monkeypatch.setattr(kept, "_PROGRAM", "no.such.program")
    with pytest.raises(kept.CannotKeep, match="ended with status 1"):
        kept.graph_of(SPEC, tmp_path / "other", rounded=True)
