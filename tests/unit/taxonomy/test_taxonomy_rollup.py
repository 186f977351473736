import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_taxonomies import graphs, make, scored, scores, taxonomies, wnid

from taxonomy.errors import BadScores
from taxonomy.graph import load
from taxonomy.rollup import BLOCK, UNITS, WHOLE, Rollup, leaf_units

DOG, CANINE = "n02084071", "n02083346"


def edges(taxonomy):
    return [(parent, node) for node, above in enumerate(taxonomy.parents) for parent in above]


def reference(taxonomy, probabilities):
    """The definition, in exact integers and label by label."""
    units = leaf_units(probabilities)
    return [[sum(int(row[label]) for label in held) // 1024 for held in taxonomy.column_sets] for row in units]


@pytest.fixture(scope="module")
def imagenet():
    return load()


@pytest.fixture(scope="module")
def photos():
    rng = np.random.default_rng(7)
    weights = np.exp(rng.normal(size=(40, 1000)) * np.linspace(0.5, 8, 40)[:, None])
    return weights / weights.sum(axis=1, keepdims=True)


# ---- the laws, on random graphs


@given(scored())
def test_equals_its_definition(case):
    taxonomy, probabilities = case
    assert Rollup(taxonomy).masses(probabilities).tolist() == reference(taxonomy, probabilities)


@given(scored())
def test_leaves_keep_their_probability(case):
    taxonomy, probabilities = case
    masses = Rollup(taxonomy).masses(probabilities)
    own = leaf_units(probabilities) // 1024
    for label, node in enumerate(taxonomy.label_nodes):
        alone = taxonomy.leaf_count[node] == 1  # no other label lies under it
        assert (masses[:, node] == own[:, label]).all() if alone else (masses[:, node] >= own[:, label]).all()


@given(scored())
def test_root_is_one_whole_photo(case):
    taxonomy, probabilities = case
    assert (Rollup(taxonomy).masses(probabilities)[:, 0] == WHOLE).all()


@given(scored())
def test_a_child_is_never_above_its_parent(case):
    taxonomy, probabilities = case
    masses = Rollup(taxonomy).masses(probabilities)
    assert all((masses[:, child] <= masses[:, parent]).all() for parent, child in edges(taxonomy))


@given(scored())
def test_children_bound_their_parent_and_add_up_where_they_share_no_label(case):
    taxonomy, probabilities = case
    masses = Rollup(taxonomy).masses(probabilities).astype(int)
    units = leaf_units(probabilities)
    for node in range(taxonomy.nodes):
        inside = [child for parent, child in edges(taxonomy) if parent == node]
        if not inside:
            continue
        own = units[:, [c for c, v in enumerate(taxonomy.label_nodes) if v == node]].sum(axis=1) // 1024
        together = masses[:, inside].sum(axis=1) + own
        assert (masses[:, node] <= together + len(inside)).all()  # each floor takes less than one
        if sum(len(taxonomy.label_sets[c]) for c in inside) == len(
            frozenset().union(*(taxonomy.label_sets[c] for c in inside))
        ):
            assert (masses[:, node] >= together).all()


@given(st.data())
def test_the_order_of_the_labels_does_not_matter(data):
    parents, labels = data.draw(graphs())
    probabilities = data.draw(scores(len(labels), photos=1))
    # Ties for the largest leaf are settled by position; a distinct largest one keeps the residue with its label.
    probabilities[0, 0] += 1
    probabilities /= probabilities.sum()
    order = data.draw(st.permutations(range(len(labels))))
    plain = Rollup(make(parents, labels)).masses(probabilities)
    shuffled = Rollup(make(parents, [labels[i] for i in order])).masses(probabilities[:, order])
    assert (plain == shuffled).all()


@given(st.data())
def test_one_certain_label_is_exactly_its_ancestors(data):
    taxonomy = data.draw(taxonomies())
    label = data.draw(st.integers(0, taxonomy.classes - 1))
    masses = Rollup(taxonomy).masses(np.eye(taxonomy.classes)[[label]])[0, : taxonomy.nodes]
    node = int(taxonomy.label_nodes[label])
    assert set(np.flatnonzero(masses == WHOLE)) == {node, *taxonomy.ancestors(node)}
    assert set(np.unique(masses)) <= {0, WHOLE}


@given(scored(), st.integers(1, WHOLE), st.integers(0, 500))
def test_what_reaches_a_threshold_is_closed_upward_and_shrinks(case, threshold, step):
    taxonomy, probabilities = case
    masses = Rollup(taxonomy).masses(probabilities)[:, : taxonomy.nodes]
    reached = masses >= threshold
    assert all((reached[:, parent] >= reached[:, child]).all() for parent, child in edges(taxonomy))
    assert not ((masses >= threshold + step) & ~reached).any()


@given(st.data())
def test_an_edge_to_an_ancestor_changes_nothing(data):
    parents, labels = data.draw(graphs())
    probabilities = data.draw(scores(len(labels)))
    plain = make(parents, labels)
    redundant = make([above if 0 in above or not above else [*above, 0] for above in parents], labels)
    plain_masses, other_masses = (Rollup(t).masses(probabilities) for t in (plain, redundant))
    for synset in plain.synsets:
        there = redundant.node(synset.wnid)
        assert (plain_masses[:, plain.node(synset.wnid)] == other_masses[:, there]).all()


@given(scored())
def test_areas_partition_the_display_tree(case):
    taxonomy, probabilities = case
    area = Rollup(taxonomy).masses(probabilities).astype(int)[:, taxonomy.area_column]
    for node, inside in enumerate(taxonomy.display_children):
        assert (area[:, node] >= area[:, list(inside)].sum(axis=1)).all()
    drawn = taxonomy.drawn_sets
    for inside in taxonomy.display_children:
        assert sum(len(drawn[c]) for c in inside) == len(frozenset().union(*(drawn[c] for c in inside)))


# ---- the laws, on ImageNet's graph


def test_imagenet_keeps_the_laws(imagenet, photos):
    masses = Rollup(imagenet).masses(photos)
    parent, child = np.array(edges(imagenet)).T
    assert (masses[:, 0] == WHOLE).all()
    assert (masses[:, parent] >= masses[:, child]).all()
    assert masses.tolist() == ((leaf_units(photos).astype(np.int64) @ imagenet.membership) // 1024).tolist()


def test_photos_beyond_a_block_are_rolled_up_alike(imagenet, photos):
    many = np.concatenate([photos] * 7)[: 2 * BLOCK + 5]
    rollup = Rollup(imagenet)
    assert (rollup.masses(many) == np.concatenate([rollup.masses(photos)] * 7)[: len(many)]).all()
    many[BLOCK + 3, 0] = np.nan
    with pytest.raises(BadScores, match=f"Row {BLOCK + 3} "):
        rollup.masses(many)


@pytest.mark.parametrize("labels", [5, 20, 50, 100, 250, 500, 625])  # each divides 10,240,000: floors meet their edges
def test_the_order_of_addition_does_not_matter(labels):
    scores = np.zeros((1, 1000))
    scores[0, :labels] = 1 / labels
    shuffled = np.random.default_rng(8).permuted(np.repeat(scores, 100, axis=0), axis=1)
    assert (np.sort(leaf_units(shuffled)) == np.sort(leaf_units(scores))).all()


@pytest.fixture
def three_breeds(imagenet):
    """Beagle, basenji and Chihuahua at 0.2 each; the rest is a dingo, which is a canine and no dog."""
    probabilities = np.zeros(1000)
    for breed, share in {"n02088364": 0.2, "n02110806": 0.2, "n02085620": 0.2, "n02115641": 0.4}.items():
        probabilities[imagenet.labels.index(breed)] = share
    return probabilities


def test_several_uncertain_dogs_are_surely_a_dog(imagenet, three_breeds):
    masses = Rollup(imagenet).masses([three_breeds])[0]
    assert masses[imagenet.node(DOG)] == 6_000
    assert masses[imagenet.node(CANINE)] == WHOLE


def test_sums_along_edges_break_the_root(imagenet):
    masses = np.zeros(imagenet.nodes)
    masses[imagenet.label_nodes] = 1 / 1000
    for node in range(imagenet.nodes - 1, -1, -1):
        masses[list(imagenet.parents[node])] += masses[node]
    assert masses[0] == pytest.approx(1.343, abs=1e-3)  # more than one whole photo


def test_means_of_children_break_monotony(imagenet, three_breeds):
    children = {node: [] for node in range(imagenet.nodes)}
    for parent, child in edges(imagenet):
        children[parent].append(child)
    masses = np.zeros(imagenet.nodes)
    masses[imagenet.label_nodes] = three_breeds
    for node in range(imagenet.nodes - 1, -1, -1):
        if children[node]:
            masses[node] = np.mean(masses[children[node]])
    assert masses[imagenet.node(DOG)] < 0.02  # below each of its breeds
    assert any(masses[child] > masses[parent] for parent, child in edges(imagenet))


# ---- units, and what is refused


@given(scores(5), st.floats(0.9991, 1.0009), st.sampled_from([np.float32, np.float64]))
def test_units_always_add_up_to_one_photo(probabilities, factor, kind):
    scaled = (probabilities * factor).astype(kind)
    units = leaf_units(scaled)
    assert (units.sum(axis=1) == UNITS).all()
    assert (units >= 0).all()
    assert np.abs(units / UNITS - probabilities).max() < 1e-6


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            [1 / 3, 1 / 3, 1 / 3],
            [3_413_334, 3_413_333, 3_413_333],
        ),  # 10,240,000 / 3 = 3,413,333.3; residue to the first
        ([0.0, 1.0, 0.0], [0, UNITS, 0]),
        ([1e-9, 1 - 2e-9, 1e-9], [0, UNITS, 0]),  # 0.01 of a unit is none
    ],
)
def test_the_residue_goes_to_the_largest(row, expected):
    assert leaf_units([row]).tolist() == [expected]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([0.5, np.nan, 0.5], "Row 1 .*finite"),
        ([0.5, np.inf, 0.5], "Row 1 .*finite"),
        ([1.5, -0.5, 0.0], "Row 1 .*negative"),
        ([0.5, 0.4, 0.0], "Row 1 .*sum to 1"),
        ([0.5, 0.502, 0.0], "Row 1 .*sum to 1"),
        ([0.0, 0.0, 0.0], "Row 1 .*sum to 1"),
    ],
)
def test_no_distribution_is_refused_by_row(bad, message):
    with pytest.raises(BadScores, match=message):
        leaf_units([[0.2, 0.3, 0.5], bad])


@pytest.mark.parametrize("shape", [(3,), (2, 0), (1, 2, 3)])
def test_scores_of_another_shape_are_refused(shape):
    with pytest.raises(BadScores, match="shape"):
        leaf_units(np.ones(shape))


def test_scores_of_another_model_are_refused():
    taxonomy = make([[], [0], [0]], [1, 2])
    with pytest.raises(BadScores, match="3 scores per photo do not fit 2 labels"):
        Rollup(taxonomy).masses([[0.2, 0.3, 0.5]])


def test_no_photos_are_no_masses():
    taxonomy = make([[], [0], [0]], [1, 2])
    assert Rollup(taxonomy).masses(np.empty((0, 2))).shape == (0, taxonomy.columns)


def test_a_label_above_a_label_adds_it():
    taxonomy = make([[], [0], [1]], [1, 2])
    masses = Rollup(taxonomy).masses([[0.25, 0.75]])[0]
    assert [int(masses[taxonomy.node(wnid(n))]) for n in (0, 1, 2)] == [10_000, 10_000, 7_500]
