"""Daft as its published benchmark of image classification has it: download, image.decode, apply, a model class.

The model is loaded when its class is made, before the clock starts; the class runs in this process, where Daft's own
threads call it.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import daft
import numpy as np
import torch
from daft import DataType, col
from daft.io import IOConfig, S3Config
from PIL import Image

from benchmarks.peers import network
from benchmarks.peers.harness import Answer, Job, read_answers

FOUND = DataType.struct({"wnid": DataType.string(), "score": DataType.float32()})
SHAPE = (3, network.SIZE, network.SIZE)


class DaftFrame:
    """The settings for S3, and the model."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.folder = Path(job.scratch) / "predictions"
        self.access = IOConfig(
            s3=S3Config(
                endpoint_url=job.endpoint_url,
                region_name=job.region,
                key_id=job.access_key_id,
                access_key=job.secret_access_key,
                use_ssl=False,
            )
        )
        daft.set_runner_native()
        self.model = _model_class(job)

    def run(self, began: Callable[[], None]) -> dict[str, object]:
        began()
        keys = list(self.job.keys)
        frame = daft.from_pydict({"key": keys, "url": [f"s3://{self.job.bucket}/{key}" for key in keys]})
        photo = col("url").download(io_config=self.access).decode_image(mode=daft.ImageMode.RGB)
        frame = frame.with_column("photo", photo)
        frame = frame.with_column(
            "tensor", col("photo").apply(_transform(), DataType.tensor(DataType.float32(), SHAPE))
        )
        frame = frame.with_column("found", self.model(col("tensor")))
        frame = frame.select(col("key"), col("found").get("wnid"), col("found").get("score"))
        frame.write_csv(str(self.folder))
        return {}

    def answers(self) -> Iterable[Answer]:
        return read_answers(sorted(self.folder.glob("*.csv")))

    def close(self) -> None:
        """Nothing of Daft runs outside this process."""


def _transform() -> Any:  # noqa: ANN401 - a function of an array
    """The transform of a decoded photo, an array [H, W, 3]."""
    ready = network.transform()
    return lambda photo: ready(Image.fromarray(photo)).numpy()


def _model_class(job: Job) -> Any:  # noqa: ANN401 - daft.cls returns a class of its own
    loaded = network.load()

    @daft.cls(max_concurrency=1, use_process=False)
    class Classifier:
        @daft.method.batch(return_dtype=FOUND, batch_size=job.batch)
        def __call__(self, tensors: daft.Series) -> list[dict[str, Any]]:
            if len(tensors) == 0:
                return []
            found = network.top1(loaded, torch.from_numpy(np.array(tensors.to_pylist())))
            return [{"wnid": job.labels[label], "score": score} for label, score in found]

    return Classifier()


CONTENDER = DaftFrame
