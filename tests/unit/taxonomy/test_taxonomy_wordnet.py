import os
from importlib.resources import files
from pathlib import Path

import pytest

from taxonomy.errors import BadLabels, UnknownSynset, WordNetMissing
from taxonomy.graph import load
from taxonomy.labels import format_labels, read_labels
from taxonomy.wordnet import build, build_files

DATA = Path(str(files("taxonomy"))) / "data"
WORDNET = Path(os.environ.get("WORDNET_DIR", "/usr/share/wordnet"))

needs_wordnet = pytest.mark.skipif(
    not (WORDNET / "data.noun").is_file(),
    reason=f"no WordNet files in {WORDNET}; install wordnet-base or set WORDNET_DIR",
)


@needs_wordnet
def test_building_again_gives_the_same_bytes(tmp_path):
    path = build_files(DATA / "imagenet-1k.labels.tsv", WORDNET, tmp_path, "imagenet-1k")
    for name in ("imagenet-1k.json", "imagenet-1k.sha256"):
        assert (path.parent / name).read_bytes() == (DATA / name).read_bytes()


@needs_wordnet
def test_labels_may_be_names_and_lie_above_each_other():
    taxonomy = build(["dog.n.01", "n02113335", "n02121808"], "pets", WORDNET)  # poodle; domestic cat
    dog, poodle = (int(node) for node in taxonomy.label_nodes[:2])
    assert taxonomy.labels[0] == "n02084071"
    assert taxonomy.is_under(poodle, dog)
    assert taxonomy.leaf_count[dog] == 2
    assert taxonomy.synsets[dog].lemmas == ("dog", "domestic_dog", "Canis_familiaris")
    assert taxonomy.synsets[dog].subject == "noun.animal"


@needs_wordnet
def test_instances_hang_under_their_class():
    taxonomy = build(["everest.n.01"], "peaks", WORDNET)
    assert taxonomy.find("mountain peak")


@needs_wordnet
@pytest.mark.parametrize("label", ["n00000001", "run.v.01", "not a synset"])
def test_an_unknown_synset_is_named(label):
    with pytest.raises(UnknownSynset, match="no noun synset"):
        build(["n02084071", label], "odd", WORDNET)


@needs_wordnet
def test_one_synset_under_two_names_is_a_repeated_label():
    with pytest.raises(BadLabels, match="class 0 and at class 1"):
        build(["n02084071", "dog.n.01"], "twice", WORDNET)


def test_a_folder_without_wordnet_is_refused(tmp_path):
    with pytest.raises(WordNetMissing, match=r"cntlist\.rev"):
        build(["n02084071"], "none", tmp_path)


# ---- lists of labels


def test_the_shipped_labels_are_those_of_the_taxonomy():
    text = (DATA / "imagenet-1k.labels.tsv").read_text()
    assert read_labels(DATA / "imagenet-1k.labels.tsv") == load().labels
    assert format_labels(load().labels) == text


def test_comments_and_blank_lines_are_skipped(tmp_path):
    path = tmp_path / "labels.tsv"
    path.write_text("# my model\n0\tdog.n.01\n\n1\tn02121808\n")
    assert read_labels(path) == ("dog.n.01", "n02121808")


@pytest.mark.parametrize("line", ["1\tdog.n.01", "0 dog.n.01", "0\t", "0\tdog.n.01\tdog", "x\tdog.n.01"])
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "labels.tsv"
    path.write_text(f"# header\n{line}\n")
    with pytest.raises(BadLabels, match="Line 2"):
        read_labels(path)


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(BadLabels, match="cannot be read"):
        read_labels(tmp_path / "none.tsv")
