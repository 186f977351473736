"""From a network in torch to one of OpenVINO's; as a program, from a model's description to two files.

``python -m workers.models.openvino_graph FOLDER rounded|exact < MODEL.json``
    writes `graph.xml` and `graph.bin`. `workers.models.openvino_kept` starts it, so that torch, which takes two thirds
    of a gigabyte, is not in the worker's memory. Where it cannot, its last line says why, and its status is `REFUSED`.
"""

import gc
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import TypeAdapter
from torch import nn

from pipeline.errors import ConfigurationError, ModelError
from workers.models import networks
from workers.models.openvino_kept import GRAPH, REFUSED, CannotConvert
from workers.models.prepare import Seeing, folded, round_weights
from workers.models.silent_openvino import converted, ov
from workers.models.spec import ModelSpec


def graph(network: nn.Module, spec: ModelSpec, *, rounded: bool) -> ov.Model:
    """The network of `spec`, made quick, for one photo: uint8 [1, size, size, 3] in, float32 logits out.

    `rounded` is for processors that multiply bfloat16. The network may be changed.

    Raises:
        CannotConvert: torch cannot export it, or it has an operation that OpenVINO does not know.
    """
    quick = folded(network, spec.image_size)
    if rounded:
        round_weights(quick)
    shape = (1, spec.image_size, spec.image_size, 3)
    try:
        with torch.no_grad(), _quiet():
            sample = torch.zeros(shape, dtype=torch.uint8)
            model = converted(torch.export.export(Seeing(quick, spec).eval(), (sample,)))
            model.reshape(list(shape))
    except Exception as exc:  # torch, its compiler and OpenVINO raise whatever they like over a network
        raise CannotConvert(f"OpenVINO cannot run {spec.network} ({type(exc).__name__}: {exc}).") from exc
    gc.collect()  # the exported program is full of cycles, and holds the weights
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the tracebacks that OpenVINO logs about operations which this version of torch never decomposes."""

    def wanted(record: logging.LogRecord) -> bool:
        return "not found in decomp table" not in str(record.msg)

    root = logging.getLogger()
    root.addFilter(wanted)
    try:
        yield
    finally:
        root.removeFilter(wanted)


def main(folder: str, how: str) -> int:
    """Convert the model that standard input describes."""
    spec = TypeAdapter(ModelSpec).validate_json(sys.stdin.read())
    try:
        model = graph(networks.build(spec), spec, rounded=how == "rounded")
    except (CannotConvert, ConfigurationError, ModelError) as exc:
        print("\n" + json.dumps([type(exc).__name__, str(exc)]))
        return REFUSED
    if not Path(folder).is_dir():
        return 1  # who wanted it was killed, and its successor has cleared away; saving would make the folder again
    ov.save_model(model, Path(folder) / GRAPH, compress_to_fp16=False)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
