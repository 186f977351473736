"""OpenVINO without its telemetry. Import it from here and from nowhere else (`make check` sees to it).

Importing OpenVINO imports `openvino_telemetry`, which sends an event over the network there and then, unless a file in
the user's home forbids it. Where that package is missing OpenVINO does without; so it is told that it is.
"""

import sys
from typing import Any

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: an import of it fails

import openvino as ov  # noqa: E402

__all__ = ["converted", "ov"]


def converted(exported: Any) -> ov.Model:  # noqa: ANN401 - torch's, which only this function imports
    """A program that torch exported, as OpenVINO's; raises whatever OpenVINO raises."""
    from openvino.frontend import FrontEndManager  # noqa: PLC0415
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder  # noqa: PLC0415 - it imports torch

    decoder = TorchFXPythonDecoder.from_exported_program(exported)  # the frontend does not keep it alive
    frontend = FrontEndManager().load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))
