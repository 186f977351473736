import csv as csv_format
import io
import itertools
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lettering import fit, width
from pipeline.palette import FAMILIES, HATCH, HUES, UNSURE, contrast, paints
from pipeline.profile import Cell, Profile
from pipeline.treemap import Rectangle, csv, describe, layout, svg

SIDES = st.integers(20, 4000)


def cell(name: str = "dog", mass: int = 10_000, **changes: object) -> Cell:
    values = {"kind": "category", "node": 1, "wnid": "n02084071", "path": ("n00015388",), "photos": 1, "share": 0.5}
    return Cell(**{**values, "name": name, "mass": mass, **changes})  # type: ignore[arg-type]


def rest(kind: str, mass: int) -> Cell:
    return cell(kind, mass, kind=kind, node=None, wnid=None, path=(), photos=None)


def of(*cells: Cell) -> Profile:
    mass = sum(c.mass for c in cells)
    return Profile(photos=mass // 10_000, mass=mass, cells=cells)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=14), SIDES, SIDES)
def test_layout_is_proportional_fills_and_never_overlaps(masses: list[int], across: int, down: int) -> None:
    placed = layout(masses, across, down)
    whole = across * down
    tiny = 1e-9 * max(across, down)
    for mass, r in zip(masses, placed, strict=True):
        assert r.width * r.height == pytest.approx(whole * mass / sum(masses), rel=1e-6, abs=1e-9 * whole)
        assert r.x >= -tiny
        assert r.y >= -tiny
        assert r.x + r.width <= across + tiny
        assert r.y + r.height <= down + tiny
    assert sum(r.width * r.height for r in placed) == pytest.approx(whole)
    assert all(overlap(a, b) <= tiny * max(across, down) for a, b in itertools.combinations(placed, 2))


def overlap(a: Rectangle, b: Rectangle) -> float:
    across = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    down = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(across, 0.0) * max(down, 0.0)


def test_layout_of_the_paper() -> None:
    # Bruls, Huizing, van Wijk, section 3: areas 6 6 4 3 2 2 1 in 6 x 4.
    placed = layout([6, 6, 4, 3, 2, 2, 1], 6, 4)
    sizes = [(round(r.width, 2), round(r.height, 2)) for r in placed]
    assert sizes == [(3, 2), (3, 2), (1.71, 2.33), (1.29, 2.33), (1.2, 1.67), (1.2, 1.67), (0.6, 1.67)]


HOSTILE = [
    "<script>alert(1)</script>",
    "a & b",
    '"quoted"',
    "]]>",
    "\x00\x0b\ufffe\ud800",
    "\u202eevil",
    "日本語",
    "",
    " ",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name: str) -> None:
    drawn = svg(of(cell(name), rest("unsure", 500)), title=name)
    tree = ElementTree.fromstring(drawn.encode())
    assert {element.tag.rpartition("}")[2] for element in tree.iter()} <= {
        *("svg", "title", "desc", "defs", "pattern", "rect", "g", "text")
    }
    assert not any(attribute.startswith(("on", "style")) for element in tree.iter() for attribute in element.attrib)


@given(st.text(max_size=60), st.integers(1, 400), st.integers(1, 400))
def test_lettering_stays_in_its_box(text: str, across: int, down: int) -> None:
    lines = fit(text, (across, down), (10, 34))
    assert all(width(line.text) * line.size <= across + 1e-6 and 10 <= line.size <= 34 for line in lines)
    assert sum(line.size * 1.2 for line in lines) <= down + 1e-6
    assert not lines or " ".join(" ".join(line.text for line in lines).split()) == " ".join(text.split())


def test_same_profile_same_bytes_and_numbers_in_words() -> None:
    made = of(
        cell("dog", 66_660, photos=7), cell("cat", 13_340, photos=1), rest("other", 10_000), rest("unsure", 10_000)
    )
    assert svg(made, "Ada") == svg(made, "Ada")
    assert describe(made) == "10 photos: dog 66.7 % (7 photos), cat 13.3 % (1 photo), other 10.0 %, unsure 10.0 %."
    assert describe(made) in svg(made, "Ada")


def test_nobodys_photos_are_a_picture_too() -> None:
    assert "No photos yet" in svg(of(), "Ada")
    ElementTree.fromstring(svg(of(), "Ada"))


@pytest.mark.parametrize("family", [*FAMILIES, "n99999999"])
def test_words_stand_out_on_every_tint_of_every_family(family: str) -> None:
    for paint in paints([cell(path=(family,))] * 4 + [rest("other", 1), rest("unsure", 1)]):
        assert contrast(paint.fill, paint.text) >= 4.5
    assert all(contrast(paints([rest("unsure", 1)])[0].text, ground) >= 4.5 for ground in (UNSURE, HATCH))


def test_a_familys_hue_does_not_depend_on_the_neighbours() -> None:
    dog, bird = cell(path=("n00015388", "n01861778")), cell(path=("n00015388", "n01503061"))
    assert paints([dog, bird])[0] == paints([dog])[0] == paints([bird, dog])[1]
    assert paints([dog])[0].fill != paints([bird])[0].fill
    assert set(FAMILIES.values()) <= set(HUES)


def test_contrast_as_wcag_defines_it() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_csv_is_read_back() -> None:
    made = of(cell('dog, "hot"', 7_500, share=0.75), rest("unsure", 2_500))
    rows = list(csv_format.DictReader(io.StringIO(csv(made), newline="")))
    assert [(r["kind"], r["name"], r["photos"], r["mass"]) for r in rows] == [
        ("category", 'dog, "hot"', "1", "7500"),
        ("unsure", "unsure", "", "2500"),
    ]
    assert rows[0]["share"] == "0.750000"
