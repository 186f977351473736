"""The gate before any speed: photos as they are shipped say what a float32 reference says of them.

The reference is the way of the model's authors: Pillow decodes the whole photo, torchvision's sizes and offsets scale
and cut it, torch runs the network in float32. Ours is the decode child and the default classifier of this machine.
"""

import numpy as np
import pytest
from PIL import Image, ImageOps

from taxonomy.graph import load as load_taxonomy
from workers.decode.pool import DecodePool
from workers.models.registry import get

torch = pytest.importorskip("torch", reason="torch is not installed")

from workers.models import networks  # noqa: E402  (after the skip)
from workers.models.load import load  # noqa: E402
from workers.models.prepare import Seeing  # noqa: E402

SPEC = get("efficientnet-lite0")
AGREEMENT = 0.99
POINTS = 0.005
CHUNK = 8  # photos; more fall out of the cache


def reference_pixels(path):
    with Image.open(path) as opened:
        photo = ImageOps.exif_transpose(opened).convert("RGB")
    short = min(photo.size)
    scaled = photo.resize([int(SPEC.resize * side / short) for side in photo.size], Image.Resampling.BICUBIC)
    left, upper = (round((side - SPEC.image_size) / 2) for side in scaled.size)
    return np.asarray(scaled.crop((left, upper, left + SPEC.image_size, upper + SPEC.image_size)))


@torch.inference_mode()
def reference_tops(files):
    network = Seeing(networks.build(SPEC), SPEC).eval().to(memory_format=torch.channels_last)
    tops = []
    for at in range(0, len(files), CHUNK):
        pixels = np.stack([reference_pixels(path) for path in files[at : at + CHUNK]])
        tops.append(network(torch.from_numpy(pixels)).argmax(dim=1).numpy())
    return np.concatenate(tops)


def shipped_tops(files):
    model = load(SPEC, SPEC.decision)
    with DecodePool(2, SPEC.target) as decoders:
        pixels = np.stack([decoders.decode(path.read_bytes()).pixels for path in files])
    return model.predict(pixels).argmax(axis=1)


@pytest.mark.slow
def test_top_1_agrees_with_the_reference_and_is_as_right(shared_photos):
    files = sorted((shared_photos / "imagenet").glob("*.JPEG"))
    labels = load_taxonomy(SPEC.taxonomy).labels
    classes = np.array([labels.index(path.name.split("_")[0]) for path in files])
    reference, shipped = reference_tops(files), shipped_tops(files)
    assert len(files) >= 500
    assert (shipped == reference).mean() >= AGREEMENT
    assert abs((shipped == classes).mean() - (reference == classes).mean()) <= POINTS
