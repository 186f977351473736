"""``pictograph models``: the models that can be named, and adding one of your own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pictograph.cli import rollout
from pictograph.cli.connect import ready, seeing
from pictograph.cli.console import STYLE, Json, complain, emit, note, out, plain, say
from pictograph.places import DATABASE
from pictograph.stack import Service
from pipeline.errors import ConfigurationError, PictographError
from pipeline.settings import Settings
from pipeline.store.roles import Role
from workers.ledger import open_database
from workers.models import registry, weights
from workers.models.spec import ModelSpec

group = typer.Typer(**STYLE)
models_group = typer.Typer(
    **STYLE,
    help="The models that can be named; adding one of your own, and rolling one out.",
    epilog="Example: `pictograph models add torchvision:googlenet --weights googlenet-1378be20.pth`",
)
group.add_typer(models_group, name="models")
models_group.add_typer(rollout.models_group)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")]


@models_group.command("list", epilog="Example: `pictograph models list --json`")
def list_models(*, as_json: Json = False) -> None:
    """The models that PICTOGRAPH_MODEL, `tag --model` and all others can name, and those of the ledger.

    Of the ledger's: which is active, how many photos each has seen, and what share that is of the active one's.
    """
    settings = Settings.read()
    table = Table(box=None, show_header=True, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("name", "network", "pixels", "in the ledger", "weights"):
        table.add_column(title, no_wrap=True)
    damaged, ledger = [], _ledger(settings)
    for name in registry.names(registry.folder_of(settings)):
        try:
            facts = _facts(registry.get(name, registry.folder_of(settings)), settings)
        except ConfigurationError as exc:
            damaged.append(str(exc))
            continue
        stored = ledger.pop(facts["fingerprint"], None)
        if as_json:
            emit(facts | ({"ledger": stored} if stored else {}))
        else:
            mark = " (configured)" if facts["configured"] else ""
            standing = rollout.standing(stored)
            table.add_row(
                plain(name + mark), facts["network"], str(facts["image_size"]), standing, plain(facts["weights"])
            )
    for stored in ledger.values():  # as a model was once, or as another machine has it
        if as_json:
            emit({"name": stored["name"], "network": None, "configured": False, "ledger": stored})
        else:
            table.add_row(plain(stored["label"]), "-", "-", rollout.standing(stored), "not here")
    if not as_json:
        out.print(table)
    _tell(damaged)


def _ledger(settings: Settings) -> dict[str, dict[str, Any]]:
    """What the ledger knows of models, by fingerprint; nothing where there is no ledger yet, or it does not answer."""
    if settings.database_url is None and not (settings.home / "postgres").exists():
        return {}
    try:
        with (
            ready(DATABASE, quiet=True) as found,
            open_database(found, "pictograph models", Role.API) as database,
            seeing(database) as connection,
        ):
            return rollout.known(connection)
    except PictographError as exc:
        note(f"The ledger's models are left out: {exc}")
        return {}


def _facts(spec: ModelSpec, settings: Settings) -> dict[str, Any]:
    return {
        "name": spec.name,
        "network": spec.network,
        "image_size": spec.image_size,
        "weights": spec.weights.uri,
        "sha256": spec.weights.sha256,
        "fingerprint": spec.fingerprint(),
        "bundled": spec.name in registry.MODELS,
        "random": spec.weights.random,
        "configured": spec.name == settings.model,
    }


@models_group.command(
    "add",
    epilog="Example: `pictograph models add vit --network torchvision:vit_b_16 --weights s3://models/vit.safetensors`",
)
def add_model(
    name: Name,
    *,
    uri: Annotated[
        str,
        typer.Option(
            "--weights",
            metavar="FILE|s3://…|package:NAME/PATH|random:SEED",
            help="Safetensors, or torch's format without code; random:SEED draws some, for measuring speed.",
        ),
    ],
    network: Annotated[
        str | None,
        typer.Option(metavar="torchvision:…|timm:…", help="The network; unless given, NAME is one."),
    ] = None,
    sha256: Annotated[str | None, typer.Option(metavar="HEX", help="Refuse weights with another hash.")] = None,
    variant: Annotated[
        str | None,
        typer.Option(metavar="WEIGHTS", help="Which of torchvision's weights they are, such as IMAGENET1K_V1."),
    ] = None,
    resize: Annotated[
        int | None, typer.Option(min=1, help="Pixels of the scaled photo's short side, instead of the published ones.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="The labels the weights were trained with: class, a tab, synset id.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="What logits are divided by.")] = 1.0,
    noise_floor: Annotated[float, typer.Option(help="Label smoothing of the training, 0 to below 1.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Try a model, pin its weights by their hash, and write it down in the models' folder.

    Nothing is downloaded from any hub: you bring the weights.
    """
    with _torch():
        from workers.models.adding import Addition, add  # noqa: PLC0415 - torch only when it is needed
    addition = Addition(
        name=name,
        uri=uri,
        network=network,
        sha256=sha256,
        variant=variant,
        resize=resize,
        labels=labels,
        temperature=temperature,
        noise_floor=noise_floor,
    )
    with _settings(uri) as settings:
        spec = add(addition, settings)
        if as_json:
            emit(_facts(spec, settings))
        else:
            say(f"Added {spec.name}: {spec.network}, {spec.image_size} pixels, SHA-256 {spec.weights.sha256}.")
            say(f"Use it with PICTOGRAPH_MODEL={spec.name}, or --model {spec.name}.")
            if spec.weights.random:
                say("Its weights are random: it is for measuring speed, and its tags mean nothing.")


@models_group.command("verify", epilog="Example: `pictograph models verify efficientnet-lite0`")
def verify(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="The model; unless given, all of them.")] = None,
    *,
    as_json: Json = False,
) -> None:
    """Whether weights, labels and canaries are what they were; exit status 1 where one is not."""
    with _torch():
        from workers.models.adding import faults  # noqa: PLC0415 - torch only when it is needed
    folder = registry.folder_of(Settings.read())
    wrong: list[str] = []
    for each in registry.names(folder) if name is None else (name,):
        try:
            spec = registry.get(each, folder)
        except ConfigurationError as exc:
            if name is not None:
                raise
            found, meaningless = [str(exc)], False
        else:
            with _settings(spec.weights.uri) as settings:
                found, meaningless = faults(spec, settings), spec.weights.random
        wrong += found
        if as_json:
            emit({"name": each, "ok": not found, "random": meaningless, "faults": found})
        elif not found:
            say(f"{each}: weights, labels and canaries are as they were{_MEANINGLESS if meaningless else '.'}")
    _tell([] if as_json else wrong, failed=bool(wrong))


_MEANINGLESS = "; the weights are random, so its tags mean nothing."


@models_group.command("remove", epilog="Example: `pictograph models remove vit`")
def remove(name: Name, *, as_json: Json = False) -> None:
    """Forget a model that was added; results it gave stay, and its weights stay where they were."""
    registry.remove(name, registry.folder_of(Settings.read()))
    emit({"removed": name}) if as_json else say(f"Removed {name}.")


@contextmanager
def _settings(uri: str) -> Iterator[Settings]:
    """The settings; with S3 answering where the weights are there."""
    if uri.startswith(weights.S3):
        with ready(frozenset({Service.S3}), quiet=True) as settings:
            yield settings
    else:
        yield Settings.read()


@contextmanager
def _torch() -> Iterator[None]:
    try:
        yield
    except ImportError as exc:
        raise ConfigurationError("torch is not installed; pip install 'pictograph[worker]'.") from exc


def _tell(sentences: list[str], *, failed: bool = False) -> None:
    """Each sentence, and the exit status."""
    for sentence in sentences:
        complain(sentence)
    if sentences or failed:
        raise typer.Exit(1)
