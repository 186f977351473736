import hashlib

import pytest
from hypothesis import given
from random_taxonomies import make, taxonomies, wnid

from taxonomy.build import from_hypernyms
from taxonomy.codec import Stored, decode, encode
from taxonomy.errors import BadGraph, BadLabels, DamagedTaxonomy, UnknownSynset
from taxonomy.graph import Taxonomy, load

DOG, CANINE, DOMESTIC_ANIMAL, DINGO = "n02084071", "n02083346", "n01317541", "n02115641"


@pytest.fixture(scope="module")
def imagenet():
    return load()


# ---- ImageNet's graph


def test_sizes(imagenet):
    assert imagenet.classes == 1000
    assert imagenet.nodes == 1860
    assert sum(map(len, imagenet.parents)) == 1937
    assert sum(len(above) > 1 for above in imagenet.parents) == 75
    assert len(set(imagenet.label_sets)) == 1396
    assert len(set(imagenet.shown_as.tolist())) == 1396
    assert imagenet.membership.shape == (1000, imagenet.columns)


def test_dog_has_two_parents_and_118_labels(imagenet):
    dog = imagenet.node(DOG)
    assert {imagenet.synsets[p].wnid for p in imagenet.parents[dog]} == {CANINE, DOMESTIC_ANIMAL}
    assert imagenet.leaf_count[dog] == 118
    assert imagenet.bits[dog] == pytest.approx(3.083, abs=1e-3)  # log2(1000 / 118)


def test_dingo_is_a_canine_and_no_dog(imagenet):
    dingo = imagenet.node(DINGO)
    assert not imagenet.is_under(dingo, imagenet.node(DOG))
    assert imagenet.is_under(dingo, imagenet.node(CANINE))


def test_no_label_lies_above_another(imagenet):
    assert all(imagenet.leaf_count[node] == 1 for node in imagenet.label_nodes)


@pytest.mark.parametrize("name", ["crane", "cardigan", "maillot"])
def test_names_repeat_among_the_labels(imagenet, name):
    assert len(set(imagenet.find(name)) & set(imagenet.label_nodes.tolist())) == 2


@pytest.mark.parametrize("name", ["dog", "Domestic dog", "domestic_dog", "canis  familiaris"])
def test_a_synset_is_found_by_any_lemma(imagenet, name):
    assert imagenet.node(DOG) in imagenet.find(name)


def test_what_is_not_there_is_not_found(imagenet):
    assert imagenet.find("unicorn") == ()
    with pytest.raises(UnknownSynset, match="n99999999"):
        imagenet.node("n99999999")


def test_closure_holds_the_shortest_distances(imagenet):
    distance = {(above, node): steps for above, node, steps in imagenet.closure.tolist()}
    dog = imagenet.node(DOG)
    assert len(distance) == len(imagenet.closure) == sum(map(len, imagenet.distances))
    assert distance[dog, dog] == 0
    assert distance[imagenet.node(DOMESTIC_ANIMAL), dog] == 1
    assert distance[0, dog] == 8  # by way of domestic animal; 13 by way of canine


def test_arrays_cannot_be_changed(imagenet):
    for array in (imagenet.leaf_count, imagenet.bits, imagenet.membership, imagenet.shown_as, imagenet.closure):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


# ---- any graph


@given(taxonomies())
def test_ancestors_are_those_of_the_closure(taxonomy):
    for node in range(taxonomy.nodes):
        above = set()
        for parent in taxonomy.parents[node]:
            above |= {parent, *taxonomy.ancestors(parent)}
        assert taxonomy.ancestors(node) == tuple(sorted(above))


@given(taxonomies())
def test_storing_keeps_everything(taxonomy):
    data = encode(taxonomy.stored())
    again = Taxonomy.from_stored(decode(data))
    assert again.stored() == taxonomy.stored()
    assert again.sha256 == taxonomy.sha256 == hashlib.sha256(data).hexdigest()


def test_node_order_does_not_depend_on_the_order_given():
    parents = [[], [0], [0], [1, 2], [3], [2]]
    assert make(parents, [4, 5]).synsets == make(parents, [5, 4]).synsets


@pytest.mark.parametrize(
    ("parents", "labels", "error", "message"),
    [
        ([[], [0, 2], [1]], [2], BadGraph, "circle: n0000000[12] > "),
        ([[], [], [0, 1]], [2], BadGraph, "2 roots"),
        ([[], [0], [9]], [2], UnknownSynset, "n00000009"),
        ([[], [0]], [7], UnknownSynset, "n00000007"),
        ([[], [0]], [1, 0, 1], BadLabels, "n00000001 stands at class 0 and at class 2"),
        ([[]], [], BadLabels, "no labels"),
        ([[], *[[0]] * 32_767], range(1, 32_768), BadGraph, "32768 columns"),
    ],
)
def test_nonsense_is_refused(parents, labels, error, message):
    with pytest.raises(error, match=message):
        make(parents, labels)


def test_synsets_that_no_label_reaches_are_left_out():
    assert [s.wnid for s in make([[], [0], [0]], [2]).synsets] == [wnid(0), wnid(2)]


def stored(**changes):
    taxonomy = make([[], [0], [0, 1]], [2])
    values = {name: getattr(taxonomy.stored(), name) for name in Stored.__slots__}
    return Stored(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"parents": ((), (), (0, 1))}, BadGraph),  # two roots
        ({"parents": ((), (2,), (0, 1))}, BadGraph),  # a child before its parent
        ({"display_parent": (-1, 0, 2)}, BadGraph),  # no parent
        ({"labels": (wnid(1),)}, BadGraph),  # a synset without a label
        ({"labels": (wnid(9),)}, BadLabels),
        ({"labels": (wnid(2), wnid(2))}, BadLabels),
    ],
)
def test_a_file_that_holds_no_taxonomy_is_refused(changes, error):
    with pytest.raises(error, match="build it again"):
        Taxonomy.from_stored(stored(**changes))


# ---- loading


@pytest.fixture
def folder(tmp_path):
    data = encode(make([[], [0]], [1]).stored())
    (tmp_path / "small.json").write_bytes(data)
    (tmp_path / "small.sha256").write_text(hashlib.sha256(data).hexdigest() + "  small.json\n")
    return tmp_path


def test_a_taxonomy_is_loaded_once(folder):
    assert load("small", folder) is load("small", folder)
    assert load("small", folder).classes == 1


def test_changed_bytes_are_refused(folder):
    (folder / "small.json").write_bytes((folder / "small.json").read_bytes() + b"\n")
    with pytest.raises(DamagedTaxonomy, match="checksum"):
        load("small", folder)


@pytest.mark.parametrize("missing", ["small.json", "small.sha256"])
def test_a_missing_file_is_named_as_such(folder, missing):
    (folder / missing).unlink()
    with pytest.raises(DamagedTaxonomy, match="cannot be read"):
        load("small", folder)


@pytest.mark.parametrize("data", [b"{}", b"[]", b"\xff", b"nonsense", b'{"format":0}'])
def test_bytes_that_are_no_taxonomy_are_refused(data):
    with pytest.raises(DamagedTaxonomy, match="build it again"):
        decode(data)


def test_unreachable_hypernyms_are_refused():
    with pytest.raises(UnknownSynset):
        from_hypernyms(name="none", labels=[wnid(1)], synsets={}, hypernyms={wnid(1): []})
