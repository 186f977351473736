"""The colours, as they are and as readers without some of the cones see them (Machado, Oliveira, Fernandes 2009)."""

import itertools
import re

import pytest

from pipeline.palette import (
    DIVERGING,
    FAMILIES,
    HUES,
    INK,
    OTHER,
    OTHER_AT_NIGHT,
    PAPER,
    STEPS,
    TINTS,
    UNSURE,
    UNSURE_AT_NIGHT,
    contrast,
    diverging,
    paint_of,
    paints,
    rim,
    style_sheet,
)
from pipeline.profile import Cell

GROUNDS = ("#faf8f3", "#ffffff", "#131311", "#1d1c19")  # of pages: light and dark, and what is raised on them
APART = 5.0  # of 100, in Oklab: seen at once side by side; 2 is about where a difference begins to be seen
VISIONS = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "no green": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.01182, 0.04294, 0.968881)),
}
FILLS = {f"{name}-{number}": fill for name, *fills in TINTS.values() for number, fill in enumerate(fills)}
ALL = {**FILLS, "other": OTHER, "unsure": UNSURE}


def linear(colour: str) -> list[float]:
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in channels(colour))]


def channels(colour: str) -> bytes:
    return bytes.fromhex(colour[1:])


def seen(colour: str, vision: str) -> list[float]:
    given = linear(colour)
    rgb = [sum(m * v for m, v in zip(row, given, strict=True)) for row in VISIONS[vision]]
    return oklab([min(1.0, max(0.0, channel)) for channel in rgb])


def oklab(rgb: list[float]) -> list[float]:
    """B. Ottosson, "A perceptual color space for image processing", 2020."""
    cones = times(
        ((0.4122214708, 0.5363325363, 0.0514459929),
         (0.2119034982, 0.6806995451, 0.1073969566),
         (0.0883024619, 0.2817188376, 0.6299787005)), rgb)  # fmt: skip
    return times(
        ((0.2104542553, 0.7936177850, -0.0040720468),
         (1.9779984951, -2.4285922050, 0.4505937099),
         (0.0259040371, 0.7827717662, -0.8086757660)), [max(0.0, cone) ** (1 / 3) for cone in cones])  # fmt: skip


def times(matrix: tuple[tuple[float, float, float], ...], vector: list[float]) -> list[float]:
    return [sum(m * v for m, v in zip(row, vector, strict=True)) for row in matrix]


def distance(one: str, other: str, vision: str) -> float:
    pairs = zip(seen(one, vision), seen(other, vision), strict=True)
    return 100 * sum((x - y) ** 2 for x, y in pairs) ** 0.5


@pytest.mark.parametrize("vision", VISIONS)
def test_any_two_fills_are_told_apart(vision: str) -> None:
    close = {
        (x, y): round(distance(ALL[x], ALL[y], vision), 1)
        for x, y in itertools.combinations(ALL, 2)
        if distance(ALL[x], ALL[y], vision) < APART
    }
    assert close == {}
    assert distance(OTHER_AT_NIGHT, UNSURE_AT_NIGHT, vision) >= APART


@pytest.mark.parametrize("vision", VISIONS)
def test_the_steps_of_a_difference_are_told_apart_and_so_are_its_ends(vision: str) -> None:
    assert all(distance(x, y, vision) >= APART for x, y in itertools.pairwise(DIVERGING))
    for step in range(len(STEPS)):
        assert distance(DIVERGING[step], DIVERGING[-1 - step], vision) >= APART


@pytest.mark.parametrize("fill", [*ALL.values(), *DIVERGING, OTHER_AT_NIGHT, UNSURE_AT_NIGHT])
def test_rims_stand_out_from_every_page_and_words_from_every_fill(fill: str) -> None:
    assert all(contrast(rim(fill), ground) >= 3 for ground in GROUNDS)
    assert max(contrast(INK, fill), contrast(PAPER, fill)) >= 4.5


def test_differences_have_a_sign_and_a_middle() -> None:
    assert [diverging(d).fill for d in (-1, -0.05, 0, 0.005, 0.05, 1)] == [
        *(DIVERGING[0], DIVERGING[2], DIVERGING[4], DIVERGING[4], DIVERGING[6], DIVERGING[8])
    ]
    assert diverging(0.3).name == "apart-8"


def cell(*path: str) -> Cell:
    return Cell(kind="category", node=1, wnid=path[-1], name="x", path=path, photos=1, mass=1, share=0.1)


def test_a_family_has_one_hue_in_four_tints() -> None:
    family = next(iter(FAMILIES))
    names = [paint.name for paint in paints([cell(family)] * 5)]
    assert len({*names}) == 4
    assert names[0] == names[4] == paint_of((family,)).name
    assert {name.partition("-")[0] for name in names} == {TINTS[FAMILIES[family]][0]}
    assert set(FAMILIES.values()) <= set(HUES)


def test_the_style_sheet_has_every_paint_once_for_each_theme() -> None:
    light, dark = style_sheet().split("@media")
    classes = re.findall(r"^\.([\w-]+) ", light, re.MULTILINE)
    assert sorted(classes) == sorted([*FILLS, "other", "unsure", *(f"apart-{i}" for i in range(len(DIVERGING)))])
    assert re.findall(r"^\.([\w-]+) ", dark, re.MULTILINE) == ["other", "unsure"]
