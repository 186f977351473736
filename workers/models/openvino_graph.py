"""From a network in torch to one of OpenVINO's."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from workers.models.prepare import Seeing
from workers.models.silent_openvino import FrontEndManager, TorchFXPythonDecoder, ov
from workers.models.spec import ModelSpec


class CannotConvert(Exception):
    """OpenVINO cannot run this network."""


def graph(network: nn.Module, spec: ModelSpec, photos: int) -> ov.Model:
    """The network of `spec` for `photos` photos at a time: uint8 [photos, size, size, 3] in, float32 logits out.

    Raises:
        CannotConvert: torch cannot export it, or it has an operation that OpenVINO does not know.
    """
    shape = (photos, spec.image_size, spec.image_size, 3)
    try:
        with torch.no_grad(), _quiet():
            exported = torch.export.export(Seeing(network, spec).eval(), (torch.zeros(shape, dtype=torch.uint8),))
            decoder = TorchFXPythonDecoder.from_exported_program(exported)  # the frontend does not keep it alive
            frontend = FrontEndManager().load_by_framework("pytorch")
            model = frontend.convert(frontend.load(decoder))
            model.reshape(list(shape))
    except Exception as exc:  # torch, its compiler and OpenVINO raise whatever they like over a network
        raise CannotConvert(f"OpenVINO cannot run {spec.network} ({type(exc).__name__}: {exc}).") from exc
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
