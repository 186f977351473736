import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.profile import CategoryTotal, Profile, broadest_shown, choose, names, profile
from pipeline.records import WHOLE
from taxonomy.build import from_hypernyms
from taxonomy.graph import Taxonomy, load
from taxonomy.synset import Synset

LABELS = 8


def small_taxonomy(hypernyms: dict[str, list[str]], labels: list[str]) -> Taxonomy:
    synsets = {wnid: Synset(wnid=wnid, lemmas=(wnid,), name=wnid, gloss="") for wnid in hypernyms}
    return from_hypernyms(name="small", labels=labels, synsets=synsets, hypernyms=hypernyms)


@st.composite
def taxonomies(draw: st.DrawFn) -> Taxonomy:
    """A random graph, several parents allowed: a root, up to seven inner nodes, eight labels."""
    inner = [f"n{i:08d}" for i in range(draw(st.integers(2, 8)))]
    labels = [f"n{i:08d}" for i in range(100, 100 + LABELS)]
    hypernyms: dict[str, list[str]] = {inner[0]: []}
    for i, wnid in enumerate([*inner[1:], *labels], start=1):
        above = inner[: min(i, len(inner))]
        hypernyms[wnid] = draw(st.lists(st.sampled_from(above), min_size=1, max_size=2, unique=True))
    return small_taxonomy(hypernyms, labels)


def totals_of(taxonomy: Taxonomy, photos: list[list[int]]) -> list[CategoryTotal]:
    """Totals as the pipeline makes them, of photos given as masses of their labels (each sums up to one photo)."""
    mass, tagged = [0] * taxonomy.columns, [0] * taxonomy.columns
    for leaves in photos:
        rolled = [int(m) for m in leaves @ taxonomy.membership]
        for column, m in enumerate(rolled):
            mass[column] += m
            tagged[column] += column < taxonomy.nodes and taxonomy.shown_as[column] == column and m >= WHOLE / 2
    return [CategoryTotal(column=c, photos=tagged[c], mass=mass[c]) for c in range(taxonomy.columns) if mass[c]]


@st.composite
def photos(draw: st.DrawFn) -> list[int]:
    """Masses of one photo's labels."""
    cuts = sorted(draw(st.lists(st.integers(0, WHOLE), min_size=LABELS - 1, max_size=LABELS - 1)))
    return [b - a for a, b in itertools.pairwise([0, *cuts, WHOLE])]


@given(taxonomies(), st.lists(photos(), max_size=6), st.integers(1, 4))
@settings(deadline=None)
def test_cells_partition_the_mass(taxonomy: Taxonomy, taken: list[list[int]], k: int) -> None:
    made = profile(totals_of(taxonomy, taken), taxonomy, k)
    assert sum(cell.mass for cell in made.cells) == made.mass == WHOLE * len(taken)
    assert all(cell.mass > 0 for cell in made.cells)
    assert sum(made.per_mille()) == (1000 if taken else 0)
    assert made.photos == len(taken)


@given(taxonomies(), st.data(), st.integers(1, 4))
@settings(deadline=None)
def test_choice_equals_brute_force(taxonomy: Taxonomy, data: st.DataObject, k: int) -> None:
    worth = data.draw(st.dictionaries(st.integers(1, taxonomy.nodes - 1), st.integers(1, 9), max_size=9))
    chosen = choose(worth, taxonomy, k)
    assert allowed(chosen, taxonomy)
    assert len(chosen) <= k
    options = itertools.chain.from_iterable(itertools.combinations(worth, j) for j in range(k + 1))
    best = max(sum(worth[v] for v in option) for option in options if allowed(option, taxonomy))
    assert sum(worth[v] for v in chosen) == best


def allowed(nodes: tuple[int, ...], taxonomy: Taxonomy) -> bool:
    return not any(taxonomy.is_under(a, b) for a, b in itertools.permutations(nodes, 2))


def test_the_graph_forbids_what_the_tree_allows() -> None:
    # "both" is drawn under the first parent; the second is above it all the same. 3 + 3 is forbidden, 3 + 2 is not.
    hypernyms = {"n0": [], "n1": ["n0"], "n2": ["n0"], "n3": ["n1", "n2"], "n4": ["n1"], "n5": ["n2"], "n6": ["n2"]}
    taxonomy = small_taxonomy(hypernyms, ["n3", "n4", "n5", "n6"])
    both, beside, second = (taxonomy.node(w) for w in ("n3", "n4", "n2"))
    assert choose({both: 3, second: 3, beside: 2}, taxonomy, 2) in [(both, beside), (beside, second)]
    assert sorted(choose({both: 3, second: 3, beside: 2}, taxonomy, 1)) in [[both], [second]]


@pytest.fixture(scope="module")
def imagenet() -> Taxonomy:
    return load()


def photo_of(taxonomy: Taxonomy, name: str, certain: float) -> list[int]:
    """A photo that is `certain` of one label; half of the rest goes to labels near it, half to others."""
    node = taxonomy.find(name)[0]
    label = taxonomy.label_nodes.tolist().index(node)
    near = sorted(taxonomy.drawn_sets[taxonomy.display_parent[taxonomy.display_parent[node]]] - {label})[:5]
    far = range(0, taxonomy.classes, 200)
    masses = [0] * taxonomy.classes
    for other in (*near, *far):
        masses[other] += int(WHOLE * (1 - certain) / 10)
    masses[label] += WHOLE - sum(masses)
    return masses


def shown(made: Profile) -> list[str]:
    return [cell.name for cell in made.cells if cell.kind == "category"]


BREEDS = ["golden retriever", "pug", "Siberian husky", "beagle", "Scotch terrier", "komondor"]


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([(breed, 0.75) for breed in BREEDS], ["dog"]),
        ([(breed, 0.95) for breed in BREEDS], ["dog"]),
        ([("espresso", 0.9)], ["coffee"]),  # espresso is the only coffee among the labels, and shown as coffee
        ([("pug", 0.9)] * 8, ["pug"]),
        ([("pug", 0.9)] * 3 + [("golden retriever", 0.85)] * 3, ["pug", "golden retriever"]),
        ([(breed, 0.7) for breed in BREEDS] * 5 + [("espresso", 0.9)], ["dog", "coffee"]),
        ([(breed, 0.95) for breed in BREEDS] + [("pizza", 0.9)] * 9, ["pizza", "dog"]),
        ([("pug", 0.9)] * 8 + [("espresso", 0.9)] * 4, ["pug", "coffee"]),
    ],
)
def test_people_see_what_they_would_say(
    imagenet: Taxonomy, taken: list[tuple[str, float]], expected: list[str]
) -> None:
    totals = totals_of(imagenet, [photo_of(imagenet, name, certain) for name, certain in taken])
    assert shown(profile(totals, imagenet, 4)) == expected


def test_no_photos_no_cells(imagenet: Taxonomy) -> None:
    made = profile([], imagenet)
    assert (made.photos, made.mass, made.cells, made.per_mille()) == (0, 0, (), ())


def test_broadest_shown_areas_are_disjoint_and_hold_almost_all_labels(imagenet: Taxonomy) -> None:
    drawn = [imagenet.drawn_sets[node] for node in broadest_shown(imagenet)]
    assert sum(map(len, drawn)) == len(frozenset().union(*drawn)) >= 0.95 * imagenet.classes


def test_a_category_without_a_tagged_photo_is_not_named(imagenet: Taxonomy) -> None:
    totals = totals_of(imagenet, [photo_of(imagenet, "espresso", 0.9)])
    untagged = [CategoryTotal(column=t.column, photos=0, mass=t.mass) for t in totals]
    assert shown(profile(untagged, imagenet)) == []


def test_largest_first_and_paths_go_downward(imagenet: Taxonomy) -> None:
    totals = totals_of(imagenet, [photo_of(imagenet, "espresso", 0.9)] * 3 + [photo_of(imagenet, "pug", 0.9)] * 5)
    pug, coffee = profile(totals, imagenet, 2).cells[:2]
    assert (pug.name, pug.photos, coffee.name, coffee.photos) == ("pug", 5, "coffee", 3)
    assert pug.path[0] == "n00015388"  # animal
    assert pug.path[-1] == pug.wnid


def test_names_that_repeat_are_told_apart(imagenet: Taxonomy) -> None:
    cranes = imagenet.find("crane")
    assert len(cranes) == 2
    assert sorted(names(cranes, imagenet).values()) == ["crane (lifting device)", "crane (wading bird)"]
    assert names(cranes[:1], imagenet) == {cranes[0]: "crane"}


def test_k_below_one_is_refused(imagenet: Taxonomy) -> None:
    with pytest.raises(ValueError, match="at least one"):
        profile([], imagenet, 0)
