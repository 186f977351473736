"""OpenVINO's telemetry sends when it is imported. Ours is imported without it, and networks are still converted."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

pytest.importorskip("torch", reason="torch is not installed")

_BLOCKED = """
import socket, sys
reached = []
def refuse(*address, **_):
    reached.append(address)
    raise OSError("no network here")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
"""
_CONVERT = """
import threading
from torch import nn
import torch
from workers.models.registry import get
from workers.models.openvino_cpu import OpenVinoClassifier
from workers.models.openvino_graph import graph
import numpy as np
network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1000))
spec = get("efficientnet-lite0")
model = OpenVinoClassifier(spec, graph(network.eval(), spec, rounded=True), spec.decision, batch_photos=2)
assert model.predict(np.zeros((3, 224, 224, 3), np.uint8)).shape == (3, 1000)
sent = [name for name in sys.modules if name.startswith("openvino_telemetry.")]
for thread in threading.enumerate():  # telemetry would send from one of its own
    if thread is not threading.current_thread() and not thread.daemon:
        thread.join(5)
print("telemetry", sys.modules["openvino_telemetry"], sent, "reached", reached)
"""
_LOUD = """
import openvino
from openvino.tools.ovc import telemetry_utils
print(telemetry_utils.tm.__name__)
"""


def installed(distribution):
    """By its files: in this process the module may have been said not to exist."""
    try:
        return version(distribution) != ""
    except PackageNotFoundError:
        return False


def run(code, tmp_path):
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", _BLOCKED + code]
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not installed("openvino"), reason="OpenVINO is not installed")
def test_nothing_is_sent_and_networks_are_converted(tmp_path):
    assert run(_CONVERT, tmp_path).strip() == "telemetry None [] reached []"
    assert not (tmp_path / "intel").exists()  # where it keeps its client's id


@pytest.mark.skipif(not installed("openvino-telemetry"), reason="OpenVINO's telemetry is not installed")
def test_imported_as_usual_it_would_load_its_telemetry(tmp_path):
    """Else the test above proves nothing."""
    assert run(_LOUD, tmp_path).strip() == "openvino_telemetry"
