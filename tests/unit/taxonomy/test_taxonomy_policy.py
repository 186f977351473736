"""Rules, what they do to counts and photos, and an attacker with all the public aggregates."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_taxonomies import make, taxonomies, wnid

from taxonomy.decide import PhotoDecision
from taxonomy.disclosure import FEW, SHARE, close, lone_label, remainder
from taxonomy.errors import UnknownSynset
from taxonomy.graph import Taxonomy, load
from taxonomy.lookup import AmbiguousName, one_node
from taxonomy.policy import BadPolicy, Rule, coarsen_counts, coarsen_photo, parse_rule, target_of, work_out

MOST_LABELS, MOST_PHOTOS = 6, 9  # the attacker looks at every world: C(14, 5) = 2,002 of them


@pytest.fixture(scope="module")
def imagenet() -> Taxonomy:
    return load()


def counts_of(photos, taxonomy):
    """By column: the photos that show one of its labels; `photos` by class, each certain of its label."""
    return {column: sum(int(photos[label]) for label in held) for column, held in enumerate(taxonomy.column_sets)}


def still_counting(taxonomy, policy):
    """[L, C], 0 or 1: the rules' own definition of what counts where; hidden columns are all 0."""
    matrix = np.array(taxonomy.membership, dtype=np.int64)
    for column, lost in policy.lost.items():
        matrix[list(lost), column] = 0
    return matrix


@st.composite
def rules_of(draw, taxonomy):
    """One or two rules that the taxonomy allows, as (subtree, ancestor or None)."""
    found = []
    for node in range(1, taxonomy.nodes):
        for above in [None, *taxonomy.ancestors(node)]:
            rule = Rule(
                wnid=taxonomy.synsets[node].wnid, target=None if above is None else taxonomy.synsets[above].wnid
            )
            try:
                target_of(rule, taxonomy)
            except BadPolicy:
                continue
            found.append(rule)
    assume(found)
    return tuple(draw(st.lists(st.sampled_from(found), min_size=1, max_size=2, unique=True)))


@st.composite
def worlds(draw):
    """A taxonomy, rules, and how many photos there are of each label."""
    taxonomy = draw(taxonomies())
    assume(2 <= taxonomy.classes <= MOST_LABELS)
    rules = draw(rules_of(taxonomy))
    photos = draw(st.lists(st.integers(0, taxonomy.classes - 1), max_size=MOST_PHOTOS))
    return taxonomy, rules, np.bincount(np.array(photos, dtype=np.int64), minlength=taxonomy.classes)


# ---- what the rules do


@given(worlds())
@settings(deadline=None, max_examples=150)
def test_counts_are_exactly_those_of_the_labels_that_still_count(world):
    taxonomy, rules, photos = world
    policy = work_out(rules, taxonomy)
    expected = photos @ still_counting(taxonomy, policy)
    shown = coarsen_counts(counts_of(photos, taxonomy), policy)
    assert shown == {column: expected[column] for column in range(taxonomy.columns) if column not in policy.hidden}


@given(worlds())
@settings(deadline=None, max_examples=150)
def test_a_target_and_everything_broader_is_unchanged_and_the_subtree_is_gone(world):
    taxonomy, rules, photos = world
    policy = work_out(rules, taxonomy)
    before = counts_of(photos, taxonomy)
    after = coarsen_counts(before, policy)
    assert after[0] == before[0]
    for rule in rules:
        node, target = taxonomy.node(rule.wnid), target_of(rule, taxonomy)
        assert all(v in policy.hidden for v in range(taxonomy.nodes) if taxonomy.is_under(v, node))
        if len(rules) == 1:
            assert all(after[v] == before[v] for v in taxonomy.distances[target])
            assert policy.show(node) == target
    for node, above in enumerate(taxonomy.parents):
        for parent in above:  # still monotone: a shown category is never above its shown parent
            assert parent in policy.hidden or after.get(node, 0) <= after[parent]
    assert not set(policy.shown_as.values()) & policy.hidden


@given(worlds())
@settings(deadline=None, max_examples=150)
def test_no_rules_change_nothing_and_the_order_of_rules_says_nothing(world):
    taxonomy, rules, photos = world
    counts = counts_of(photos, taxonomy)
    assert coarsen_counts(counts, work_out((), taxonomy)) == counts
    assert coarsen_counts(counts, work_out(rules, taxonomy)) == coarsen_counts(counts, work_out(rules[::-1], taxonomy))


def photo_of(label, taxonomy):
    """A photo that is certain of one label: columns, masses, and as tags everything that may stand for others."""
    columns = [c for c, held in enumerate(taxonomy.column_sets) if label in held]
    tags = [c for c in columns if c < taxonomy.nodes and taxonomy.shown_as[c] == c and c]
    tags.sort(key=lambda v: (taxonomy.leaf_count[v], taxonomy.wnid_rank[v]))
    return PhotoDecision(
        columns=np.array(columns, dtype=np.int32),
        masses=np.full(len(columns), 10_000, dtype=np.int16),
        tags=np.array(tags, dtype=np.int32),
        headline=tags[0] if tags else None,
    )


@given(worlds())
@settings(deadline=None, max_examples=150)
def test_photos_and_totals_agree(world):
    """Coarsening totals is the same as totalling coarsened photos, for masses and for distinct tagged photos."""
    taxonomy, rules, photos = world
    policy = work_out(rules, taxonomy)
    taken = [photo_of(label, taxonomy) for label, n in enumerate(photos) for _ in range(n)]
    mass, tagged = np.zeros((2, 2, taxonomy.columns), dtype=int)
    for photo in taken:
        for now, one in enumerate((photo, coarsen_photo(photo, policy, taxonomy))):
            mass[now, one.columns] += one.masses
            tagged[now, one.tags] += 1
            assert one.headline is None or one.headline in one.tags
            assert one.headline is not None or not len(one.tags)
    for before, after in (mass, tagged):
        shown = coarsen_counts(dict(enumerate(before.tolist())), policy)
        assert {c: n for c, n in shown.items() if n} == {c: n for c, n in enumerate(after.tolist()) if n}


# ---- the attacker


def drawn_inside(node, taxonomy):
    """Whether everything under a node, and that alone, is drawn inside it: then no area tells its parts apart."""
    inside = taxonomy.label_sets[node]
    return taxonomy.drawn_sets[node] == inside and sum(held == inside for held in taxonomy.label_sets) == 1


def every_world(labels, photos):
    """[W, labels]: all ways in which so many photos can be spread over the labels."""
    bars = itertools.combinations(range(photos + labels - 1), labels - 1)
    edges = np.array([(-1, *bar, photos + labels - 1) for bar in bars], dtype=np.int64)
    return np.diff(edges, axis=1) - 1


def intervals(taxonomy, policy, photos):
    """By hidden column: the least and the greatest count in any world in which all that is published is the same."""
    published = still_counting(taxonomy, policy)
    possible = every_world(taxonomy.classes, int(photos.sum()))
    possible = possible[(possible @ published == photos @ published).all(axis=1)]
    held = possible @ np.array(taxonomy.membership, dtype=np.int64)
    return {column: (int(held[:, column].min()), int(held[:, column].max())) for column in policy.hidden}


@given(worlds())
@settings(deadline=None, max_examples=150)
def test_an_attacker_is_left_with_an_interval_from_zero(world):
    """Whatever the counts are: graph alone, no table known when the policy was closed."""
    taxonomy, rules, photos = world
    try:
        policy = work_out(close(rules, taxonomy), taxonomy)
    except BadPolicy:
        assume(False)
    counts = counts_of(photos, taxonomy)
    for column, (least, most) in intervals(taxonomy, policy, photos).items():
        assert least == 0
        assert most >= counts[column]
    assert all(lone_label(column, policy, taxonomy) is None for column in policy.hidden)


@given(worlds())
@settings(deadline=None, max_examples=150)
def test_an_attacker_is_left_with_five_photos_or_a_fifth(world):
    taxonomy, rules, photos = world
    counts = counts_of(photos, taxonomy)
    try:
        policy = work_out(close(rules, taxonomy, counts), taxonomy)
    except BadPolicy:
        assume(False)
    for column, (least, most) in intervals(taxonomy, policy, photos).items():
        target = policy.show(int(taxonomy.column_node[column]))
        if counts[column] and counts[target] >= FEW and drawn_inside(target, taxonomy):
            assert most - least >= max(FEW, SHARE * counts[column])


def star(counts):
    """A root, one category with as many labels as counts, and one label beside it; photos by class."""
    labels = [2 + i for i in range(len(counts))]
    taxonomy = make([[], [0], *[[1] for _ in labels], [0]], [*labels, 2 + len(labels)])
    return taxonomy, np.array([*counts, 7])


@pytest.mark.parametrize(
    ("counts", "taken"),
    [
        ([6, 1, 9, 30], [9]),  # the smallest that is at least five, which is more than a fifth of six
        ([100, 6, 19, 30], [30]),  # a fifth is twenty: the smallest of at least that
        ([100, 6, 7, 8], [8, 7, 6]),  # none is large enough: the largest first; 8 + 7 is short of twenty by five
        ([0, 3, 9, 1], [9]),  # nothing hidden counts yet: room for five
    ],
)
def test_the_sibling_taken_along_is_just_large_enough(counts, taken):
    taxonomy, photos = star(counts)
    rules = close([Rule(wnid=wnid(2), target=wnid(1))], taxonomy, counts_of(photos, taxonomy))
    along = [taxonomy.node(rule.wnid) for rule in rules if rule.taken_along]
    assert [counts_of(photos, taxonomy)[node] for node in along] == taken


def test_one_users_table_can_ask_for_more_than_everybodys():
    taxonomy, photos = star([10, 8, 50, 20])
    everybody = counts_of(photos, taxonomy)
    ann = counts_of(np.array([1, 0, 6, 0, 0]), taxonomy)  # with the 8 taken along, one hidden photo would stand alone
    rule = Rule(wnid=wnid(2), target=wnid(1))
    assert len(close([rule], taxonomy, everybody)) == 2
    policy = work_out(close([rule], taxonomy, everybody, [ann]), taxonomy)
    assert remainder(taxonomy.node(wnid(1)), np.array([list(ann.values())]), policy, taxonomy).tolist() == [7]


def test_without_the_closure_the_attacker_has_the_count():
    """The test of the tests: one rule alone leaves no interval at all, a sibling taken along leaves one."""
    taxonomy, photos = star([3, 2, 1, 0])
    rule, node = Rule(wnid=wnid(2), target=wnid(1)), taxonomy.node(wnid(2))
    assert intervals(taxonomy, work_out((rule,), taxonomy), photos)[node] == (3, 3)
    assert intervals(taxonomy, work_out(close([rule], taxonomy), taxonomy), photos)[node][0] == 0


# ---- the real graph


SENSITIVE = [
    ["coarsen gorilla to ape"],
    ["hide revolver", "hide rifle"],
    ["hide weapon"],
    ["coarsen dog to canine"],
    ["coarsen dog to domestic animal"],  # drawn under canine: not the display parent
    ["hide person"],
    ["coarsen brassiere to garment", "hide bikini", "hide maillot"],
    ["coarsen gorilla to animal", "hide chimpanzee"],
]


def rules(texts, taxonomy):
    found = []
    for text in texts:
        word = text.removeprefix("hide ")
        several = taxonomy.find(word) if text.startswith("hide ") else ()
        if len(several) > 1:
            found += [parse_rule(f"hide {taxonomy.synsets[node].wnid}", taxonomy) for node in several]
        else:
            found.append(parse_rule(text, taxonomy))
    return found


def propagate(published, totals, rounds=30):
    """Bounds of each label's count, from sums over sets of labels: interval propagation until nothing moves."""
    low = np.zeros(published.shape[0])
    high = np.full(published.shape[0], totals.max(), dtype=float)
    for _ in range(rounds):
        before = low.sum(), high.sum()
        for column, total in enumerate(totals):
            held = np.flatnonzero(published[:, column])
            high[held] = np.minimum(high[held], total - (low[held].sum() - low[held]))
            low[held] = np.maximum(low[held], total - (high[held].sum() - high[held]))
        if before == (low.sum(), high.sum()):
            break
    return low, high


@pytest.mark.parametrize("texts", SENSITIVE, ids="; ".join)
def test_the_real_graph_leaves_an_interval(imagenet, texts):
    generator = np.random.default_rng(7)
    users = [np.floor(generator.pareto(0.7, imagenet.classes)).astype(int) for _ in range(3)]
    photos = np.minimum(sum(users), 2_000)
    everybody = counts_of(photos, imagenet)
    policy = work_out(close(rules(texts, imagenet), imagenet, everybody), imagenet)
    visible = [column for column in range(imagenet.columns) if column not in policy.hidden]
    published = still_counting(imagenet, policy)[:, visible]
    low, high = propagate(published, photos @ published)
    for column in policy.hidden:
        held = sorted(imagenet.column_sets[column])
        count, target = everybody[column], policy.show(int(imagenet.column_node[column]))
        assert low[held].sum() <= count <= high[held].sum()
        if held and everybody[target] >= FEW:
            width = high[held].sum() - low[held].sum()
            assert width >= max(FEW, SHARE * count) or count == 0
    assert all(lone_label(column, policy, imagenet) is None for column in policy.hidden)


def test_a_gorilla_is_an_ape_and_a_dog_is_still_a_mammal(imagenet):
    gorilla, ape, mammal, dog = (one_node(word, imagenet) for word in ("gorilla", "ape", "mammal", "dog"))
    policy = work_out((parse_rule("coarsen gorilla to animal", imagenet),), imagenet)
    label = imagenet.label_nodes.tolist().index(gorilla)
    before = counts_of(
        np.bincount([label, imagenet.label_nodes.tolist().index(one_node("pug", imagenet))], minlength=1000), imagenet
    )
    after = coarsen_counts(before, policy)
    assert (before[ape], before[mammal], before[dog]) == (1, 2, 1)
    assert (after[ape], after[mammal], after[dog]) == (0, 1, 1)
    assert after[one_node("animal", imagenet)] == 2
    photo = coarsen_photo(photo_of(label, imagenet), policy, imagenet)
    assert imagenet.synsets[photo.headline].name == "animal"


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("gorilla", BadPolicy, "is no rule"),
        ("coarsen gorilla", BadPolicy, "is no rule"),
        ("hide wombatland", UnknownSynset, "has no category 'wombatland'"),
        ("hide n99999999", UnknownSynset, "n99999999"),
        ("hide crane", AmbiguousName, "n02012849"),
        ("coarsen ape to gorilla", BadPolicy, "does not lie above"),
        ("coarsen gorilla to gorilla", BadPolicy, "does not lie above"),
        ("coarsen ape to anthropoid ape", BadPolicy, "does not lie above"),
        ("hide entity", BadPolicy, "entity"),
    ],
)
def test_a_bad_rule_is_refused_in_a_sentence(imagenet, text, error, says):
    with pytest.raises(error, match=says):
        parse_rule(text, imagenet)


def test_rules_hold_for_taxonomies_that_lack_their_synsets(imagenet):
    taxonomy, _ = star([5, 5, 5])
    foreign = Rule(wnid="n02480855", target="n02470325")
    half = Rule(wnid=wnid(2), target="n02470325")  # the target is not here: the nearest instead
    assert work_out((foreign,), taxonomy).hidden == frozenset()
    assert work_out((half,), taxonomy).show(taxonomy.node(wnid(2))) == target_of(Rule(wnid=wnid(2)), taxonomy)


def test_rules_at_different_heights_do_not_hide_half_the_animals(imagenet):
    asked = rules(["coarsen gorilla to animal", "hide chimpanzee"], imagenet)
    counts = counts_of(np.full(imagenet.classes, 20), imagenet)
    for table in (None, counts):
        policy = work_out(close(asked, imagenet, table), imagenet)
        assert len(policy.shown_as) < 0.1 * imagenet.leaf_count[one_node("animal", imagenet)]


def test_a_headline_shown_as_something_too_vague_is_none_and_no_other_tag_takes_its_place(imagenet):
    """A gorilla that is only an entity, on a photo that is also tagged as something else."""
    gorilla, pug = (one_node(word, imagenet) for word in ("gorilla", "pug"))
    policy = work_out((parse_rule("coarsen gorilla to entity", imagenet),), imagenet)
    columns = np.array(sorted([0, gorilla, pug]), dtype=np.int32)
    photo = PhotoDecision(
        columns=columns,
        masses=np.array([10_000 if c == 0 else 5_000 for c in columns], dtype=np.int16),
        tags=np.array([gorilla, pug], dtype=np.int32),
        headline=gorilla,
    )
    shown = coarsen_photo(photo, policy, imagenet)
    assert (shown.headline, shown.tags.tolist()) == (None, [pug])


def test_what_goes_along_for_one_taxonomy_is_no_error_in_another(imagenet):
    """There the target need not be broader: the rule ends at the nearest category that is."""
    gorilla, pug = (imagenet.synsets[one_node(word, imagenet)].wnid for word in ("gorilla", "pug"))
    with pytest.raises(BadPolicy):
        target_of(Rule(wnid=gorilla, target=pug), imagenet)
    along = target_of(Rule(wnid=gorilla, target=pug, taken_along=True), imagenet)
    assert along == target_of(Rule(wnid=gorilla), imagenet)
