"""Small counts across users, and an attacker who takes published lists apart."""

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_taxonomies import make, taxonomies, wnid

from taxonomy.withhold import Held, withheld


def carried(taxonomy, photos):
    """By node: which of the photos carry the tag; a photo is of a user and shows a node, and so all above it."""
    return {
        node: {n for n, (_, shown) in enumerate(photos) if taxonomy.label_sets[shown] <= held}
        for node, held in enumerate(taxonomy.label_sets)
    }


def counted(photos, tagged):
    return {v: Held(users=len({photos[n][0] for n in each}), photos=len(each)) for v, each in tagged.items()}


@st.composite
def worlds(draw):
    taxonomy = draw(taxonomies(10))
    shown = st.tuples(st.integers(0, 5), st.integers(0, taxonomy.nodes - 1))
    return taxonomy, draw(st.lists(shown, max_size=40)), draw(st.integers(2, 4))


@settings(max_examples=150)
@given(worlds())
def test_no_small_count_can_be_had_by_taking_lists_apart(world):
    taxonomy, photos, fewest = world
    can_be_tags = {int(v) for v in taxonomy.shown_as}
    tagged = carried(taxonomy, photos)
    held = counted(photos, tagged)
    hidden = withheld(taxonomy, can_be_tags, held, fewest)
    published = can_be_tags - hidden
    assert all(held[v].users >= fewest for v in published)
    sets = taxonomy.label_sets
    for node in hidden:
        around = [v for v in published if sets[v] >= sets[node]]
        if not 0 < held[node].users < fewest or not around:
            continue
        # All photos that may be of the category: of what lies around it, without those of what has nothing in common.
        left = set.intersection(*(tagged[v] for v in around))
        for v in published:
            left -= set() if sets[v] & sets[node] else tagged[v]
        assert tagged[node] <= left
        assert len(left) >= held[node].photos + fewest
        for label in sets[node]:  # and some label beside it lies in just the same lists
            lists = {v for v in published if label in sets[v]}
            beside = set(range(taxonomy.classes)) - sets[node]
            assert any(lists == {v for v in published if other in sets[v]} for other in beside)


@given(worlds())
def test_nothing_is_withheld_where_everybody_has_what_there_is(world):
    taxonomy, photos, fewest = world
    assume(photos)
    everywhere = [(user, node) for user in range(fewest) for node in range(taxonomy.nodes)]
    held = counted(everywhere, carried(taxonomy, everywhere))
    assert withheld(taxonomy, {int(v) for v in taxonomy.shown_as}, held, fewest) == frozenset()


def judged(taxonomy, counts, fewest=5):
    """What is withheld, by the numbers that the taxonomy was made of; `counts`: (users, photos) by such a number."""
    numbers = {taxonomy.node(wnid(number)): number for number in counts}
    held = {node: Held(users=counts[number][0], photos=counts[number][1]) for node, number in numbers.items()}
    return {numbers[node] for node in withheld(taxonomy, held.keys(), held, fewest)}


def test_the_neighbour_with_the_fewest_photos_that_is_enough_goes_along():
    #   0 ── 1 ── 2 (one photo), 3, 4
    #   └─── 5
    taxonomy = make([[], [0], [1], [1], [1], [0]], [2, 3, 4, 5])
    counts = {0: (9, 40), 1: (9, 28), 2: (1, 1), 3: (5, 7), 4: (9, 20), 5: (9, 12)}
    assert judged(taxonomy, counts) == {2, 3}
    assert judged(taxonomy, {**counts, 1: (9, 25), 3: (5, 4)}) == {2, 4}  # four photos hide nobody among five
    # Six photos show nothing narrower than 1; but in the published lists 2 is alone, unless another one goes.
    assert judged(taxonomy, {**counts, 1: (9, 34)}) == {2, 3}
    assert judged(taxonomy, {**counts, 1: (9, 34), 3: (0, 0)}) == {2, 3}
    assert judged(taxonomy, {**counts, 2: (0, 0)}) == {2}  # nothing to hide


def test_where_two_lists_meet_in_one_category_one_of_them_goes():
    #   1 and 2 hold 3 (two photos) between them, and else 4 and 5
    taxonomy = make([[], [0], [0], [1, 2], [1], [2]], [3, 4, 5])
    counts = {0: (9, 60), 1: (9, 30), 2: (9, 20), 3: (2, 2), 4: (9, 10), 5: (9, 9)}
    hidden = judged(taxonomy, counts)
    assert 3 in hidden
    assert hidden & {1, 2}
