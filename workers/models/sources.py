"""What torchvision and timm know about the networks they name: how photos must be prepared, and what the labels are.

Nothing is downloaded: both carry it beside the code.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import timm
import torchvision

from pipeline.errors import ConfigurationError, ModelError
from taxonomy.graph import Taxonomy
from workers.decode.records import MAX_SIDE, Interpolation
from workers.models.networks import TIMM, known
from workers.models.spec import Rgb

_timm_data: Any = timm.data  # has no types
_INTERPOLATIONS: dict[str, Interpolation] = {"bicubic": "bicubic", "bilinear": "bilinear"}
_SHOWN = 3  # labels that a message names


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """How a network's weights want their photos; as in `ModelSpec`."""

    image_size: int
    resize: int
    interpolation: Interpolation
    mean: Rgb
    std: Rgb


@dataclass(frozen=True, kw_only=True, slots=True)
class Published:
    """What is published with a network's weights."""

    preparation: Preparation
    names: tuple[str, ...] = ()  # of the labels by class, in words; empty where wnids are given
    wnids: tuple[str, ...] = ()  # of the labels by class


def published(network: str, variant: str | None = None, resize: int | None = None) -> Published:
    """What is known about `network`, timm:NAME or torchvision:NAME.

    `variant` is one of several sets of weights that torchvision has for it, such as IMAGENET1K_V1; for timm it is part
    of the name (resnet50.a1_in1k). `resize` takes the place of the published one, in pixels.

    Raises:
        ConfigurationError: there is no such network or variant, or photos cannot be prepared as it wants them.
    """
    source, plain = known(network)
    if source == TIMM:
        if variant is not None:
            raise ConfigurationError(
                f"timm's variants are part of the name; write {network.partition('.')[0]}.{variant}."
            )
        found = _timm(network, plain, resize)
    else:
        found = _torchvision(network, plain, variant)
    if resize is not None:
        found = replace(found, preparation=replace(found.preparation, resize=resize))
    _check_sizes(network, found.preparation)
    return found


def _torchvision(network: str, plain: str, variant: str | None) -> Published:
    variants = torchvision.models.get_model_weights(plain)
    chosen = variants.DEFAULT if variant is None else variants.__members__.get(variant)
    if chosen is None:
        raise ConfigurationError(
            f"{network} has no weights {variant!r}; choose one of: {', '.join(variants.__members__)}."
        )
    wanted = chosen.transforms()
    return Published(
        preparation=Preparation(
            image_size=wanted.crop_size[0],
            resize=wanted.resize_size[0],
            interpolation=_interpolation(network, wanted.interpolation.value),
            mean=_levels(wanted.mean),
            std=_levels(wanted.std),
        ),
        names=tuple(chosen.meta["categories"]),
    )


def _timm(network: str, plain: str, resize: int | None) -> Published:
    facts: Any = timm.get_pretrained_cfg(plain)
    if facts is None:
        raise ConfigurationError(f"timm does not say how {network} wants its photos; name a network that it does.")
    wanted = _timm_data.resolve_data_config(pretrained_cfg=facts.to_dict())
    _, height, width = wanted["input_size"]
    if height != width or (wanted["crop_mode"] != "center" and resize is None):
        raise ConfigurationError(
            f"{network} was measured on photos that were not cut to their centre ({wanted['crop_mode']}), as ours are; "
            "--resize with the short side in pixels takes it all the same."
        )
    return Published(
        preparation=Preparation(
            image_size=height,
            resize=math.floor(height / wanted["crop_pct"]),
            interpolation=_interpolation(network, wanted["interpolation"]),
            mean=_levels(wanted["mean"]),
            std=_levels(wanted["std"]),
        ),
        wnids=_timm_wnids(network, facts),
    )


def _timm_wnids(network: str, facts: Any) -> tuple[str, ...]:  # noqa: ANN401 - timm has no types
    """The labels that belong to the number of a network's outputs, as timm has it."""
    subset = _timm_data.infer_imagenet_subset(facts.to_dict())
    if subset is None:
        raise ConfigurationError(f"{network} was not published as a classifier of ImageNet; name one that was.")
    return tuple(_timm_data.ImageNetInfo(subset).label_names())


def _interpolation(network: str, name: str) -> Interpolation:
    if name not in _INTERPOLATIONS:
        raise ConfigurationError(f"{network} wants its photos scaled by {name}; we scale them bicubic or bilinear.")
    return _INTERPOLATIONS[name]


def _levels(shares: Sequence[float]) -> Rgb:
    """From 0-1 to 0-255; rounded, so that the description does not carry the noise of the product."""
    red, green, blue = (round(share * 255, 6) for share in shares)
    return red, green, blue


def _check_sizes(network: str, wanted: Preparation) -> None:
    if not wanted.image_size <= wanted.resize or wanted.image_size > MAX_SIDE:
        raise ConfigurationError(
            f"{network} wants {wanted.image_size} pixels of photos scaled to {wanted.resize}; "
            f"we deliver at most {MAX_SIDE}, and never more than they were scaled to."
        )


def check_labels(found: Published, taxonomy: Taxonomy) -> None:
    """ModelError where the published labels are not those of the taxonomy, in its order.

    A name in words agrees with a synset if it holds all the words of one of its lemmas: "crane bird" is a crane.
    """
    labels = found.wnids or found.names
    if len(labels) != taxonomy.classes:
        raise ModelError(
            f"The network has {len(labels)} labels; the taxonomy {taxonomy.name} has {taxonomy.classes}, so its "
            "answers cannot be read."
        )
    agree = _same_wnid if found.wnids else _same_words
    wrong = [place for place in range(len(labels)) if not agree(labels[place], place, taxonomy)]
    if wrong:
        told = ", ".join(f"class {c} is {labels[c]}, not {taxonomy.labels[c]}" for c in wrong[:_SHOWN])
        raise ModelError(
            f"The network's labels are not those of the taxonomy {taxonomy.name} in its order: {told} "
            f"({len(wrong)} of {len(labels)} differ)."
        )


def _same_wnid(label: str, place: int, taxonomy: Taxonomy) -> bool:
    return label == taxonomy.labels[place]


def _same_words(label: str, place: int, taxonomy: Taxonomy) -> bool:
    lemmas = taxonomy.synsets[int(taxonomy.label_nodes[place])].lemmas
    said = _words(label)
    return any(_words(lemma) <= said or "".join(lemma.split("_")).lower() == label.lower() for lemma in lemmas)


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[a-z0-9]+", text.lower().replace("'", "")))
