"""The pictograph, as people with a mouse, a keyboard, a screen reader, a phone or no JavaScript meet it."""

import re

import pytest
from browsing import DESKTOP, OpenPage, Site
from playwright.sync_api import expect


def test_the_map_fills_the_view_and_its_areas_are_the_shares(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.user())
    box = page.locator(".map").bounding_box()
    assert box is not None
    assert box["width"] > 0.95 * DESKTOP[0]
    assert box["height"] > 0.6 * DESKTOP[1]
    whole = box["width"] * box["height"]
    for tile in page.locator(".tile").all():
        place = tile.bounding_box()
        share = float(re.search(r"([\d.]+) %", tile.inner_text()).group(1)) if tile.inner_text() else None  # type: ignore[union-attr]
        if share is not None:
            assert place is not None
            assert 100 * place["width"] * place["height"] / whole == pytest.approx(share, abs=0.5)


def test_zooming_by_keyboard_and_back(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.user(), motion=True)
    first = page.locator("a.cell[data-zoom=in]").first
    name = first.locator("strong").inner_text()
    first.focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"\?under=n\d{8}$"))
    expect(page.locator("#said")).to_contain_text(f"Showing {name}")
    expect(page.locator(".crumbs [aria-current=page]")).to_have_text(name)
    assert page.evaluate("document.activeElement.matches('.cell, #view a')")
    page.keyboard.press("Escape")
    expect(page).to_have_url(site.url + site.user())
    expect(page.locator("#said")).to_contain_text("Showing everything")
    assert page.evaluate("document.activeElement.querySelector('strong').textContent") == name


def test_arrows_go_from_cell_to_cell(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.user()}?k=6")
    page.locator("a.cell").first.focus()
    seen = {page.evaluate("document.activeElement.href")}
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
        seen.add(page.evaluate("document.activeElement.href"))
    assert len(seen) > 1
    assert page.evaluate("document.activeElement.classList.contains('cell')")


def test_the_period_by_slider_and_back(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.user())
    page.get_by_role("slider", name="From").focus()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(r"\?from=\d{4}-\d{2}$"))
    expect(page.locator(".count")).to_contain_text("from ")
    expect(page.get_by_role("slider", name="From")).to_be_focused()
    page.get_by_role("link", name="All time").click()
    expect(page).to_have_url(site.url + site.user())


def test_everything_works_without_javascript(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.user(), script=False)
    whole = page.locator(".count").inner_text()
    tile = page.locator("a.cell[data-zoom=in]").first
    name = tile.locator("strong").inner_text()
    tile.click()
    expect(page.locator(".crumbs [aria-current=page]")).to_have_text(name)
    page.get_by_role("link", name="Everything").click()
    months = page.get_by_label("From").locator("option").all_inner_texts()
    page.get_by_label("From").select_option(label=months[-1])
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".count")).not_to_have_text(whole)
    page.get_by_role("link", name="Moments").click()
    expect(page.locator(".choices [aria-current]").first).to_have_text("Moments")


def test_what_is_shown_can_be_taken_along(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.user()}?k=2")
    names = page.locator(".tile strong").all_inner_texts()
    svg = page.request.get(page.get_by_role("link", name="SVG").get_attribute("href") or "")
    csv = page.request.get(page.get_by_role("link", name="CSV").get_attribute("href") or "")
    png = page.request.get(page.get_by_role("link", name="PNG").get_attribute("href") or "")
    assert all(name in svg.text() and name in csv.text() for name in names)
    assert (svg.headers["content-type"], png.headers["content-type"]) == ("image/svg+xml", "image/png")
    assert png.body().startswith(b"\x89PNG")


def test_two_are_compared_on_one_map(site: Site, open_page: OpenPage) -> None:
    page = open_page("/compare")
    page.get_by_label("One").fill(site.users[0])
    page.get_by_label("The other").fill(site.users[1])
    page.get_by_role("button", name="Compare").click()
    expect(page).to_have_url(site.url + site.comparison(0, 1))
    expect(page.locator(".likeness .big")).to_have_text(re.compile(r"^\d+ %$"))
    headings = page.locator(".lists h2").all_inner_texts()
    assert headings == ["Both", f"Only {site.users[0]}", f"Only {site.users[1]}", "Biggest differences"]
    for row in page.locator(".numbers-table tbody tr").all():
        a, b, difference = (float(cell.replace("−", "-").strip("%< ")) for cell in row.locator("td").all_inner_texts())
        assert a - b == pytest.approx(difference, abs=0.11)
    shown = {tile.get_attribute("class") for tile in page.locator(".tile").all()}
    assert any("apart-8" in each for each in shown if each)  # cleo's animals
    page.locator(".numbers-table td a").first.click()
    expect(page.locator("h1")).to_have_text(site.users[0])
