"""A script as timm's own inference.py: a DataLoader with a worker per core, batches, a CSV file at the end.

With BENCH_TUNED=1 also what its options offer on a CPU: channels_last, and bfloat16 by autocast.
"""

import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers import network
from benchmarks.peers.harness import Answer, Job, read_answers, write_answers

TUNED = os.environ.get("BENCH_TUNED") == "1"


class Photos(Dataset[tuple[str, Tensor]]):
    """Key and tensor of each photo."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.transform = network.transform()
        self.client = None

    def __len__(self) -> int:
        return len(self.job.keys)

    def __getitem__(self, index: int) -> tuple[str, Tensor]:
        self.client = self.client or self.job.client()  # each worker process has its own
        key = self.job.keys[index]
        return key, self.transform(network.decode(self.job.get(self.client, key)))


class TimmScript:
    """The model, and the loader to be."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.file = Path(job.scratch) / "predictions.csv"
        self.network = network.load()
        if TUNED:
            self.network = self.network.to(memory_format=torch.channels_last)

    def run(self, began: Callable[[], None]) -> dict[str, object]:
        began()
        loader = DataLoader(Photos(self.job), batch_size=self.job.batch, num_workers=self.job.cores)
        write_answers(self.file, self._classify(loader))
        return {}

    def _classify(self, loader: DataLoader[tuple[str, Tensor]]) -> Iterable[Answer]:
        for keys, photos in loader:
            batch = photos.to(memory_format=torch.channels_last) if TUNED else photos
            with torch.autocast("cpu", torch.bfloat16) if TUNED else nullcontext():
                found = network.top1(self.network, batch)
            for key, (label, score) in zip(keys, found, strict=True):
                yield Answer(key=key, wnid=self.job.labels[label], score=score)

    def answers(self) -> Iterable[Answer]:
        return read_answers([self.file])

    def close(self) -> None:
        """Nothing runs any more: the loader's workers end with its iterator."""


CONTENDER = TimmScript
