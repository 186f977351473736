"""Hugging Face's image-classification pipeline over a dataset, with batches and a loader process per core.

The model is transformers' wrapper of timm networks, which is how its hub serves them; nothing is asked of the hub.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset
from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, TimmWrapperImageProcessor, pipeline

from benchmarks.peers import network
from benchmarks.peers.harness import Answer, Job, read_answers, write_answers


class Photos(Dataset[Image.Image]):
    """The photos as PIL images, which is what the pipeline takes."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.client = None

    def __len__(self) -> int:
        return len(self.job.keys)

    def __getitem__(self, index: int) -> Image.Image:
        self.client = self.client or self.job.client()  # each worker process has its own
        return network.decode(self.job.get(self.client, self.job.keys[index]))


class HuggingFace:
    """The pipeline, ready."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.file = Path(job.scratch) / "predictions.csv"
        config = TimmWrapperConfig(architecture=network.ARCHITECTURE, id2label=dict(enumerate(job.labels)))
        model = TimmWrapperForImageClassification(config)
        network.fill(model.timm_model)
        processor = TimmWrapperImageProcessor(
            pretrained_cfg={
                "input_size": (3, network.SIZE, network.SIZE),
                "crop_pct": network.SIZE / network.RESIZE,
                "interpolation": "bicubic",
                "mean": (network.MEAN,) * 3,
                "std": (network.STD,) * 3,
            },
            architecture=network.ARCHITECTURE,
        )
        self.pipeline = pipeline(
            "image-classification", model=model.eval(), image_processor=processor, device="cpu", num_workers=job.cores
        )

    def run(self, began: Callable[[], None]) -> dict[str, object]:
        began()
        found = self.pipeline(Photos(self.job), batch_size=self.job.batch, top_k=1)
        answers = (
            Answer(key=key, wnid=best["label"], score=best["score"])
            for key, (best,) in zip(self.job.keys, found, strict=True)
        )
        write_answers(self.file, answers)
        return {}

    def answers(self) -> Iterable[Answer]:
        return read_answers([self.file])

    def close(self) -> None:
        """Nothing runs any more: the loader's workers end with its iterator."""


CONTENDER = HuggingFace
