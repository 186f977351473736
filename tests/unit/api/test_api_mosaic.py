import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.pages.look import Look, bars, following, within
from api.pages.mosaic import PARTS, sheet_address, style_sheet, tiles
from api.pages.render import STATIC, page, static
from pipeline.palette import contrast
from pipeline.palette import style_sheet as palette
from pipeline.profile import Cell, Profile
from pipeline.store.periods import Month

PLACE = re.compile(r"\.tile-(\d+) \{ left: ([\d.]+)%; top: ([\d.]+)%; width: ([\d.]+)%; height: ([\d.]+)%; \}")


@given(st.lists(st.integers(1, PARTS), min_size=1, max_size=16))
def test_the_tiles_of_a_sheet_fill_the_box_by_their_masses(masses: list[int]) -> None:
    wide, narrow = style_sheet(masses).split("@media")
    for sheet in (wide, narrow):
        places = [[float(number) for number in found] for found in PLACE.findall(sheet)]
        assert [place[0] for place in places] == [*range(1, len(masses) + 1)]
        for mass, (_, left, top, width, height) in zip(masses, places, strict=True):
            assert width * height == pytest.approx(10_000 * mass / sum(masses), abs=0.05)
            assert left + width <= 100.001
            assert top + height <= 100.001


def test_a_sheets_address_is_its_content() -> None:
    assert sheet_address([30, 10]) == "/mosaic.css?m=750000,250000"
    assert sheet_address([10**15, 1]) == "/mosaic.css?m=999999,1"  # what is there is drawn, however small


def cell(kind: str, mass: int, cells: tuple[Cell, ...] = ()) -> Cell:
    node = 5 if kind == "category" else None
    wnid, name = ("n02084071", "dog") if node else (None, kind)
    return Cell(kind=kind, node=node, wnid=wnid, name=name, path=(), photos=node, mass=mass, share=0.0, cells=cells)  # type: ignore[arg-type]


def test_tiles_have_what_a_page_says_of_them() -> None:
    inner = tuple(cell("category", 10) for _ in range(4))
    made = tiles(Profile(photos=1, mass=100, cells=(cell("category", 95, inner), cell("other", 5))), {5: 77})
    assert [(t.number, t.kind, t.mille, t.cover, t.side, len(t.inside)) for t in made] == [
        (1, "category", 950, 77, 768, 3),
        (2, "other", 50, None, 384, 0),
    ]


def test_a_look_keeps_what_it_does_not_change() -> None:
    look = Look(user="a/b ü", under="n02084071", k=8, start=date(2025, 1, 1), end=date(2025, 12, 1))
    assert look.at() == "/u/a%2Fb%20%C3%BC?under=n02084071&k=8&from=2025-01&to=2025-12"
    assert look.at(under=None, k=4, start=None, unit="moments") == "/u/a%2Fb%20%C3%BC?to=2025-12&unit=moments"
    assert look.file(".svg") == "/v1/users/a%2Fb%20%C3%BC/profile.svg?under=n02084071&k=8&from=2025-01&to=2026-01"
    assert (look.asked.until, look.photos.until) == (look.until, look.until)
    assert str(look.until) == "2026-01-01 00:00:00+00:00"
    assert look.hidden() == [("under", "n02084071"), ("k", "8")]


def test_where_tiles_lead() -> None:
    look = Look(user="ada", k=4)
    dog, other = tiles(Profile(photos=1, mass=2, cells=(cell("category", 1), cell("other", 1))), {})
    assert look.way(dog) == "/u/ada?under=n02084071"
    assert look.way(other) == "/u/ada?k=6"
    assert Look(user="ada", under="n02084071").way(dog) == "#newest"
    assert Look(user="ada", k=12).way(other) == "#reading"


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (None, None, ""),
        (date(2025, 1, 1), None, "from Jan 2025"),
        (None, date(2025, 1, 1), "until Jan 2025"),
        (date(2025, 1, 1), date(2025, 1, 1), "Jan 2025"),
        (date(2024, 12, 1), date(2025, 1, 1), "Dec 2024 to Jan 2025"),
    ],
)
def test_a_period_in_words(start: date | None, end: date | None, words: str) -> None:
    assert Look(user="ada", start=start, end=end).period == words


MONTHS = [Month(month=date(2024, 11, 1), photos=4), Month(month=date(2025, 2, 1), photos=400)]


def test_months_without_photos_are_months_too() -> None:
    made = bars(MONTHS, Look(user="ada", start=date(2024, 12, 1), end=date(2025, 1, 1)))
    assert [bar.value for bar in made] == ["2024-11", "2024-12", "2025-01", "2025-02"]
    assert [bar.photos for bar in made] == [4, 0, 0, 400]
    assert [bar.height for bar in made] == [1.5, 0, 0, 40]
    assert [(bar.chosen, bar.first, bar.last) for bar in made[1:3]] == [(True, True, False), (True, False, True)]
    assert bars([], Look(user="ada")) == []
    long_ago = Month(month=date(1904, 1, 1), photos=1)
    assert [bar.value for bar in bars([long_ago, *MONTHS], Look(user="ada"))] == ["1904-01", "2024-11", "2025-02"]
    assert following(date(2024, 12, 1)) == date(2025, 1, 1)


def test_a_period_that_leaves_nothing_out_is_none() -> None:
    whole = Look(user="ada", start=date(2020, 1, 1), end=date(2025, 2, 1))
    assert within(whole, MONTHS) == Look(user="ada")
    some = Look(user="ada", start=date(2024, 12, 1))
    assert within(some, MONTHS) == some


# ---- the sheets


def test_the_palettes_sheet_is_the_palette() -> None:
    assert (STATIC / "palette.css").read_text().partition("\n")[2] == palette()


def tokens(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))


def test_words_and_borders_stand_out_in_both_themes() -> None:
    sheet = (STATIC / "style.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)[:2]
    for theme in (tokens(light), tokens(dark)):
        for ground in ("ground", "raised", "sunken"):
            for word in ("ink", "quiet", "accent", "good", "warn", "bad"):
                assert contrast(theme[word], theme[ground]) >= 4.5, (word, ground)
        assert contrast(theme["accent"], theme["on-accent"]) >= 4.5
        assert contrast(theme["edge"], theme["ground"]) >= 3
        assert contrast(theme["edge"], theme["raised"]) >= 3


@pytest.mark.parametrize("path", sorted([*STATIC.glob("*.css"), *STATIC.glob("*.js"), *STATIC.glob("*.svg")]), ids=str)
def test_nothing_is_loaded_from_elsewhere(path: Path) -> None:
    found = re.findall(r"https?://[^\s\"')]+|@import|url\(", path.read_text())
    assert set(found) <= {"http://www.w3.org/2000/svg"}
    assert static(path.name).startswith(f"/static/{path.name}?v=")


@pytest.mark.parametrize("path", sorted((STATIC.parent / "templates").iterdir()), ids=lambda path: path.name)
def test_templates_hold_no_style_and_no_script_of_their_own(path: Path) -> None:
    source = path.read_text()
    assert not re.findall(r"<style|\sstyle=|\son\w+=|javascript:", source)
    assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", source))
    filters = re.findall(r"\|\s*safe\b", source)
    assert filters == []


def test_whoever_is_named_in_a_form_is_text() -> None:
    shown = page("compare_choose.html", a='"><script>', b="ada", principal=None)
    assert 'value="&#34;&gt;&lt;script&gt;"' in shown
