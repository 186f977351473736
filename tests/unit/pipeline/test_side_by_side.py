from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_profile import photos, taxonomies, totals_of

from pipeline import compare_map
from pipeline.compare import compare
from pipeline.png import png
from pipeline.profile import Cell, apportion, profile
from pipeline.records import WHOLE
from pipeline.side_by_side import side_by_side
from taxonomy.graph import Taxonomy, load

ALBUM = st.lists(photos(), min_size=1, max_size=6)


def check(cells: tuple[Cell, ...], mass: int) -> None:
    assert sum(cell.mass for cell in cells) == mass
    for cell in cells:
        assert cell.mass > 0
        assert not cell.cells or cell.kind == "category"
        assert not cell.cells or check(cell.cells, cell.mass) is None


@given(taxonomies(), ALBUM, st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=40)
def test_cells_add_up_at_every_depth_and_under_every_category(
    taxonomy: Taxonomy, taken: list[list[int]], k: int, depth: int
) -> None:
    totals = totals_of(taxonomy, taken)
    whole = profile(totals, taxonomy, k, depth=depth)
    check(whole.cells, WHOLE * len(taken))
    assert profile(totals, taxonomy, k).cells == tuple(replace(cell, cells=()) for cell in whole.cells)
    for node in range(1, taxonomy.nodes):
        inside = profile(totals, taxonomy, k, depth=depth, under=node)
        check(inside.cells, inside.mass)
        drawn = {taxonomy.synsets[v].wnid for v in range(taxonomy.nodes) if drawn_in(v, node, taxonomy)}
        assert {cell.wnid for cell in inside.cells if cell.wnid} <= drawn
        assert sum(cell.share for cell in inside.cells) == pytest.approx(1 if inside.mass else 0)


def drawn_in(node: int, within: int, taxonomy: Taxonomy) -> bool:
    while node not in (within, -1):
        node = int(taxonomy.display_parent[node])
    return node == within


@given(taxonomies(), ALBUM, ALBUM, st.integers(1, 4))
@settings(max_examples=40)
def test_both_add_up_in_one_layout_and_swapping_swaps(
    taxonomy: Taxonomy, of_a: list[list[int]], of_b: list[list[int]], k: int
) -> None:
    a, b = totals_of(taxonomy, of_a), totals_of(taxonomy, of_b)
    there, back = side_by_side(a, b, taxonomy, k), side_by_side(b, a, taxonomy, k)
    assert sum(cell.mass_a for cell in there) == WHOLE * len(of_a)
    assert sum(cell.mass_b for cell in there) == WHOLE * len(of_b)
    assert min(min(cell.mass_a, cell.mass_b) for cell in there) >= 0
    assert [(cell.node, cell.mass, cell.difference) for cell in there] == [
        (cell.node, cell.mass, -cell.difference) for cell in back
    ]
    for cell in there:
        assert cell.share == pytest.approx((cell.share_a + cell.share_b) / 2)
    made, swapped = compare(a, b, a + b, taxonomy), compare(b, a, a + b, taxonomy)
    assert made.similarity == pytest.approx(swapped.similarity, abs=1e-12)
    assert [c.difference for c in made.categories] == [-c.difference for c in swapped.categories]


@given(taxonomies(), ALBUM)
@settings(max_examples=40)
def test_who_is_compared_with_himself_differs_in_nothing(taxonomy: Taxonomy, taken: list[list[int]]) -> None:
    totals = totals_of(taxonomy, taken)
    assert {cell.difference for cell in side_by_side(totals, totals, taxonomy)} == {0}
    made = compare(totals, totals, totals, taxonomy)
    assert (made.similarity, made.dissimilar(), made.only_a(), made.only_b()) == (1, (), (), ())


def test_nothing_is_beside_who_has_no_photos() -> None:
    assert side_by_side([], [], load()) == ()
    assert "no photos" in compare_map.svg((), ("a", "b"), "t")


@given(st.lists(st.integers(1, 10**9), max_size=12), st.integers(0, 1000))
def test_parts_add_up_to_what_was_apportioned(masses: list[int], whole: int) -> None:
    assert sum(apportion(masses, whole)) == (whole if masses else 0)


def test_a_picture_is_the_same_png_whatever_fonts_the_machine_has() -> None:
    text = '<text x="2" y="20" font-size="18">dog</text>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="90" height="30">{text}</svg>'
    named = svg.replace("<text", '<text font-family="system-ui, Comic Sans MS, sans-serif"')
    first = png(svg)
    assert first == png(named) == png(svg)
    assert first != png(svg.replace("dog", "cat"))
    assert first[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(first[16:20]), int.from_bytes(first[20:24])) == (180, 60)
