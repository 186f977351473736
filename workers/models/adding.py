"""Adding a model: from weights somewhere to a frozen description that any worker can trust; and looking after it.

What is added has been tried: its weights are pinned by their hash, fit the network tensor by tensor, come with the
labels of the taxonomy in its order, and gave finite numbers. What it said of the canaries is written down, and every
worker asks again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from pipeline.errors import ConfigurationError, ModelError, PictographError
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access
from taxonomy.errors import TaxonomyError
from taxonomy.graph import load as load_taxonomy
from taxonomy.labels import read_labels
from workers.models import canary, networks, reference, registry, weights
from workers.models.sources import Published, check_labels, published
from workers.models.spec import RANDOM, ModelSpec, Weights

RANDOM_NAME = "random-"  # how the name of a model with random weights begins, so that nobody takes it for a real one


@dataclass(frozen=True, kw_only=True, slots=True)
class Addition:
    """What is to be added."""

    name: str
    uri: str  # of the weights; see `spec.Weights`, but a path may be relative
    network: str | None = None  # timm:NAME or torchvision:NAME; None: the name says it
    sha256: str | None = None  # that the weights must have
    variant: str | None = None  # of torchvision's weights, which says how photos are prepared
    resize: int | None = None  # pixels, in place of the published one
    labels: Path | None = None  # a file of the labels the weights were trained with; None: those that are published
    temperature: float = 1.0
    noise_floor: float = 0.0


def add(addition: Addition, settings: Settings) -> ModelSpec:
    """Try the model, and write its description into the models' folder.

    Raises:
        ConfigurationError, ServiceDown: it is described wrongly, is there already, or its weights cannot be had.
        ModelError: weights, network and labels do not belong together, or the numbers are not finite.
    """
    folder = registry.folder_of(settings)
    _check_name(addition, folder)
    network = addition.network or addition.name
    found = published(network, addition.variant, addition.resize)
    spec = _described(addition, network, found, _weights(addition, network, settings))
    _check_labels(spec, found, addition.labels)
    built = networks.build(weights.at_hand(spec, settings))
    spec = replace(spec, canaries=reference.measure(spec, built))
    registry.write(spec, folder)
    return spec


def _check_name(addition: Addition, folder: Path) -> None:
    registry.check_name(addition.name)
    if addition.name in registry.names(folder):
        raise ConfigurationError(f"There is a model {addition.name} already; choose another name, or remove it first.")
    if addition.network is None and ":" not in addition.name:
        raise ConfigurationError(f"Say what {addition.name} is: --network torchvision:NAME, or timm:NAME.")
    if addition.uri.startswith(RANDOM) != addition.name.startswith(RANDOM_NAME):
        raise ConfigurationError(
            f"A model with random weights, and no other, has a name that begins with {RANDOM_NAME}, so that nobody "
            "takes its tags for real."
        )


def _described(addition: Addition, network: str, found: Published, pinned: Weights) -> ModelSpec:
    wanted = found.preparation
    try:
        return ModelSpec(
            name=addition.name,
            network=network,
            weights=pinned,
            image_size=wanted.image_size,
            resize=wanted.resize,
            interpolation=wanted.interpolation,
            mean=wanted.mean,
            std=wanted.std,
            canaries=(),
            temperature=addition.temperature,
            noise_floor=addition.noise_floor,
        )
    except ValueError as exc:
        raise ConfigurationError(f"{exc}.") from exc


def _weights(addition: Addition, network: str, settings: Settings) -> Weights:
    """Where the weights are, pinned by the hash they have now."""
    uri = addition.uri
    if uri.startswith(RANDOM):
        return _pinned(addition, uri, networks.hash_of(networks.seeded(network, uri)))
    if uri.startswith(weights.S3):
        folder, access = registry.folder_of(settings), S3Access.of(settings)
        return _pinned(addition, uri, weights.bring(uri, folder, access, addition.sha256))
    if uri.startswith(weights.PACKAGE):
        return _pinned(addition, uri, weights.sha256_of(weights.find(Weights(uri=uri, sha256=""))))
    path = Path(uri).expanduser().resolve()
    return _pinned(addition, str(path), weights.sha256_of(path))


def _pinned(addition: Addition, uri: str, sha256: str) -> Weights:
    if addition.sha256 is not None and addition.sha256.lower() != sha256:
        raise ModelError(f"{addition.uri} has the SHA-256 {sha256}, not the one that was asked for. Do not trust it.")
    return Weights(uri=uri, sha256=sha256)


def _check_labels(spec: ModelSpec, found: Published, file: Path | None) -> None:
    taxonomy = load_taxonomy(spec.taxonomy)
    check_labels(found if file is None else replace(found, wnids=read_labels(file)), taxonomy)


def faults(spec: ModelSpec, settings: Settings) -> list[str]:
    """One sentence for everything that is wrong with a model; none if it can be trusted."""
    found: list[str] = []
    _note(found, lambda: _check_labels(spec, published(spec.network, resize=spec.resize), None))
    _note(found, lambda: _see(spec, settings))
    return found


def _see(spec: ModelSpec, settings: Settings) -> None:
    """Load the weights as a worker does, and look at the canaries."""
    network = networks.build(weights.at_hand(spec, settings))
    canary.check(spec, partial(reference.predict, spec, network))


def _note(found: list[str], check: Callable[[], None]) -> None:
    try:
        check()
    except (PictographError, TaxonomyError) as exc:
        found.append(str(exc))
