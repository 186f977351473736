import pytest
from hypothesis import given
from random_taxonomies import make, taxonomies, wnid

from taxonomy.graph import load
from taxonomy.tree import as_parents, display_parents, label_sets, representatives


@pytest.fixture(scope="module")
def imagenet():
    return load()


def drawn_under(taxonomy, node):
    above = []
    while (node := int(taxonomy.display_parent[node])) >= 0:
        above.append(taxonomy.synsets[node].name)
    return above


def test_the_stored_choices_are_those_of_the_rules(imagenet):
    display = display_parents(imagenet.synsets, imagenet.parents, imagenet.label_sets)
    drawn = label_sets(as_parents(display), imagenet.label_nodes.tolist())
    assert display == imagenet.display_parent.tolist()
    assert representatives(imagenet.synsets, imagenet.parents, imagenet.label_sets, drawn) == imagenet.shown_as.tolist()


def test_sizes(imagenet):
    assert len(imagenet.areas) == 111
    assert imagenet.columns == 1860 + 111


@pytest.mark.parametrize(
    ("wnid", "above"),
    [
        ("n02084071", "mammal"),  # dog: canine, not domestic animal
        ("n07739125", "food"),  # apple: edible fruit, not pome
        ("n07881800", "food"),  # beverage: food, not liquid
        ("n02802426", "ball"),  # basketball: ball, not basketball equipment
        ("n04576211", "vehicle"),  # wheeled vehicle: vehicle, not container
    ],
)
def test_categories_are_drawn_where_people_look(imagenet, wnid, above):
    assert above in drawn_under(imagenet, imagenet.node(wnid))


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("n02389026", "horse"),  # sorrel
        ("n07920052", "coffee"),  # espresso
        ("n01622779", "owl"),  # great grey owl
        ("n06596364", "comic book"),  # not work, creation or product
        ("n02776631", "bakery"),  # not work or location
        ("n02123394", "Persian cat"),  # nothing else holds just this label
    ],
)
def test_the_everyday_name_is_shown(imagenet, label, name):
    shown = imagenet.shown_as[imagenet.node(label)]
    assert imagenet.synsets[shown].name == name


#    root ─┬─ a ── b ─┐
#          └─ c ──────┴─ x      and y under c
@pytest.mark.parametrize(
    ("subjects", "parent"),
    [
        ([0, 0, 0, 0, 0, 0], 2),  # b lies deeper
        ([0, 0, 0, 1, 1, 0], 3),  # but c is on x's subject
    ],
)
def test_subject_comes_before_depth(subjects, parent):
    taxonomy = make([[], [0], [1], [0], [2, 3], [3]], [4, 5], subjects)
    shown = taxonomy.synsets[taxonomy.display_parent[taxonomy.node(wnid(4))]]
    assert shown.wnid == wnid(parent)


@given(taxonomies())
def test_the_display_tree_keeps_every_label(taxonomy):
    assert len(taxonomy.drawn_sets[0]) == taxonomy.classes
    for node, parent in enumerate(taxonomy.display_parent.tolist()):
        assert taxonomy.drawn_sets[node] <= taxonomy.label_sets[node]
        assert (parent == -1) == (node == 0)
        assert taxonomy.depth[node] == (taxonomy.depth[parent] + 1 if node else 0)


@given(taxonomies())
def test_one_representative_for_equal_labels(taxonomy):
    shown = taxonomy.shown_as.tolist()
    assert all(shown[node] == node for node in shown)
    groups = set(zip(taxonomy.label_sets, shown, strict=True))
    assert len(groups) == len(set(taxonomy.label_sets)) == len(set(shown))


@given(taxonomies())
def test_a_representative_has_the_largest_area_of_its_group(taxonomy):
    drawn = taxonomy.drawn_sets
    assert all(len(drawn[node]) <= len(drawn[shown]) for node, shown in enumerate(taxonomy.shown_as.tolist()))


def test_area_columns_follow_the_nodes(imagenet):
    for column, node in enumerate(imagenet.column_node.tolist()):
        assert column == (node if column < imagenet.nodes else imagenet.area_column[node])
    dog = imagenet.node("n02084071")
    assert imagenet.area_column[dog] == dog  # all its labels are drawn inside it
    assert not imagenet.drawn_sets[imagenet.node("n01317541")]  # domestic animal: dogs and cats are drawn elsewhere
