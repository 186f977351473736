"""What a model is. Change any field but name, canaries and decision, and it is another model with results of its own.

Light: importing this, or the registry, does not load torch.
"""

import hashlib
import json
import math
from dataclasses import dataclass

from taxonomy.decide import Decision
from taxonomy.graph import load
from workers.decode.records import Interpolation, Target

Rgb = tuple[float, float, float]

UNCALIBRATED = Decision()  # the rule that needs no calibration
CROP = "centre at whole pixels"  # how `workers.decode.crop` cuts; another word when that changes what a model sees
RANDOM = "random:"  # how the address of weights begins that are drawn, not read


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A network's tensors, pinned by their hash."""

    uri: str  # an absolute path, s3://bucket/key, package:import_name/path, or random:SEED
    sha256: str  # of the file; of random weights, of the tensors
    distribution: str = ""  # what to install where the package is missing
    ordered: bool = False  # the file has names of its own, and its tensors are taken in the network's order

    @property
    def random(self) -> bool:
        """Whether they are drawn from a seed, so that what the network says means nothing."""
        return self.uri.startswith(RANDOM)


@dataclass(frozen=True, kw_only=True, slots=True)
class Canary:
    """What the model says about one picture drawn by `workers.models.canary`, measured once in float32."""

    picture: str
    top: int  # class
    probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpec:
    """A classifier over the labels of a taxonomy, with everything its output depends on."""

    name: str
    network: str  # the architecture: timm:NAME or torchvision:NAME
    weights: Weights
    image_size: int  # pixels, side of the square input
    resize: int  # pixels, short side of the scaled photo that the square is cut from
    interpolation: Interpolation = "bicubic"  # of the scaling
    mean: Rgb  # of 0-255
    std: Rgb  # of 0-255
    canaries: tuple[Canary, ...]
    taxonomy: str = "imagenet-1k"
    temperature: float = 1.0  # logits are divided by it (Guo et al. 2017)
    noise_floor: float = 0.0  # probability that is spread over all labels by training and says nothing; see below
    decision: Decision = UNCALIBRATED  # that ships with it

    # A network trained with label smoothing (Szegedy et al. 2016) was told to leave eps / L on each of its L labels,
    # whatever the photo shows. Under a category with hundreds of labels these add up to mass that is no evidence. So
    # noise_floor / L is taken from each probability, nothing is left below 0, and the rest is scaled to a sum of 1.

    def __post_init__(self) -> None:
        if not (0 < self.temperature < math.inf and 0 <= self.noise_floor < 1):
            raise ValueError(f"{self.name} needs a temperature above 0 and a noise_floor of 0 to below 1")
        if not all(0 < each < math.inf for each in self.std):
            raise ValueError(f"{self.name} needs a std above 0")
        _ = self.target  # refuses sizes that no decoder delivers

    @property
    def target(self) -> Target:
        """What the decoder has to deliver."""
        return Target(size=self.image_size, resize=self.resize, interpolation=self.interpolation)

    def fingerprint(self) -> str:
        """Hex SHA-256 over all that its probabilities depend on: the model's identity. The decision is not part of it.

        Raises what `taxonomy.graph.load` raises.
        """
        taxonomy = load(self.taxonomy)
        facts = {
            "network": self.network,
            "weights": [self.weights.sha256, self.weights.ordered],
            "preprocessing": [self.image_size, self.resize, self.interpolation, CROP, self.mean, self.std],
            "labels": taxonomy.labels,
            "taxonomy": taxonomy.sha256,
            "temperature": self.temperature,
            "noise_floor": self.noise_floor,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
