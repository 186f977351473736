"""OpenVINO without its telemetry. Import it from here and from nowhere else (`make check` sees to it).

Importing OpenVINO imports `openvino_telemetry`, which sends an event over the network there and then, unless a file in
the user's home forbids it. Where that package is missing OpenVINO does without; so it is told that it is.
"""

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: an import of it fails

import openvino as ov  # noqa: E402
from openvino.frontend import FrontEndManager  # noqa: E402
from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder  # noqa: E402

__all__ = ["FrontEndManager", "TorchFXPythonDecoder", "ov"]
