"""``pictograph taxonomy``: looking things up in the hypernym graph, and building it."""

from collections.abc import Iterable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any

import typer

from pictograph.cli.console import STYLE, Json, emit, say
from pipeline.errors import ConfigurationError
from taxonomy.graph import Taxonomy, load

group = typer.Typer(**STYLE)
taxonomy_group = typer.Typer(
    **STYLE, help="The hypernym graph behind the tags.", epilog="Example: `pictograph taxonomy show dog`"
)
group.add_typer(taxonomy_group, name="taxonomy")


@taxonomy_group.command("show", epilog="Example: `pictograph taxonomy show dog`")
def show_category(
    name: Annotated[str, typer.Argument(help="A word, or a synset id such as n02084071.")], *, as_json: Json = False
) -> None:
    """Every sense of a word: what it means, what lies above it and below it."""
    taxonomy = load()
    nodes = (taxonomy.node(name),) if name[:1] == "n" and name[1:].isdigit() else taxonomy.find(name)
    if not nodes:
        raise ConfigurationError(f"The taxonomy {taxonomy.name} has no category {name!r}; try a more general word.")
    for node in nodes:
        facts = _facts(taxonomy, node)
        emit(facts) if as_json else _show(facts)


def _facts(taxonomy: Taxonomy, node: int) -> dict[str, Any]:
    def names(nodes: Iterable[int]) -> list[str]:
        return [f"{taxonomy.synsets[v].name} ({taxonomy.synsets[v].wnid})" for v in nodes]

    synset = taxonomy.synsets[node]
    below = [child for child, parents in enumerate(taxonomy.parents) if node in parents]
    return {
        "wnid": synset.wnid,
        "name": synset.name,
        "lemmas": list(synset.lemmas),
        "gloss": synset.gloss,
        "labels": int(taxonomy.leaf_count[node]),
        "bits": round(float(taxonomy.bits[node]), 2),
        "shown_as": taxonomy.synsets[taxonomy.shown_as[node]].name,
        "parents": names(taxonomy.parents[node]),
        "children": names(below),
    }


def _show(facts: dict[str, Any]) -> None:
    also = [lemma.replace("_", " ") for lemma in facts["lemmas"] if lemma.replace("_", " ") != facts["name"]]
    labels = "1 label" if facts["labels"] == 1 else f"{facts['labels']} labels"
    say(f"{facts['name']} ({facts['wnid']}): {facts['gloss']}")
    if also:
        say(f"  also called {', '.join(also)}")
    say(f"  {labels} of the model, {facts['bits']} bits")
    if facts["shown_as"] != facts["name"]:
        say(f"  shown as {facts['shown_as']}, which holds the same labels")
    say(f"  above: {', '.join(facts['parents']) or 'nothing'}")
    say(f"  below: {', '.join(facts['children']) or 'nothing'}")


@taxonomy_group.command("build", epilog="Example: `pictograph taxonomy build --wordnet /usr/share/wordnet`")
def build(
    *,
    labels: Annotated[
        Path | None, typer.Option(help="labels.tsv: class index, synset id or name; default ImageNet-1k's.")
    ] = None,
    name: Annotated[str, typer.Option(help="The taxonomy's name.")] = "imagenet-1k",
    wordnet: Annotated[Path, typer.Option(help="Folder with WordNet 3.0's data.noun (Debian: wordnet-base).")] = Path(
        "/usr/share/wordnet"
    ),
    out_dir: Annotated[Path, typer.Option("--out", help="Where the built files go.")] = Path("."),
    as_json: Json = False,
) -> None:
    """Build a hypernym graph from WordNet 3.0 for a list of labels; needs pictograph[wordnet]."""
    from taxonomy.wordnet import build_files  # noqa: PLC0415 - needs nltk, which only builders install

    with as_file(files("taxonomy") / "data" / "imagenet-1k.labels.tsv") as shipped:
        path = build_files(labels or shipped, wordnet, out_dir, name)
    emit({"file": str(path)}) if as_json else say(f"Built {path}.")
