"""The pages about categories and photos, in a browser: with and without scripts, by keyboard, checked by axe."""

import re
from collections.abc import Callable

import pytest
from browsing import OpenPage
from playwright.sync_api import Page, expect


def first_category(page: Page) -> str:
    """The address of the category with the most photos."""
    address = page.locator(".mosaic a.cover").first.get_attribute("href")
    assert address
    return address


def test_why_a_tag_is_shown_where_one_asks(open_page: OpenPage, flaws: Callable[[Page], list[str]]) -> None:
    page = open_page(first_category(open_page("/")))
    page.locator("[data-stream] a").first.click()
    page.locator("a[data-why]").first.click()
    expect(page.locator("#why")).to_be_focused()
    assert flaws(page) == []


def test_the_search_completes_by_keyboard_and_works_without_scripts(open_page: OpenPage) -> None:
    page = open_page("/")
    field = page.get_by_role("combobox", name="Search categories")
    field.press_sequentially("cran")
    options = page.get_by_role("option")
    expect(options.first).to_be_visible()
    expect(field).to_have_attribute("aria-expanded", "true")
    field.press("ArrowDown")
    expect(options.first).to_have_attribute("aria-selected", "true")
    marked = options.first.get_attribute("id")
    assert marked
    expect(field).to_have_attribute("aria-activedescendant", marked)
    field.press("ArrowUp")  # back in the field
    expect(options.first).to_have_attribute("aria-selected", "false")
    field.press("Escape")
    expect(page.get_by_role("listbox")).to_be_hidden()
    field.press("ArrowDown")
    field.press("ArrowDown")
    name = options.first.locator("b").inner_text().partition(" (")[0]
    field.press("Enter")
    expect(page.locator("h1")).to_have_text(name)
    assert re.search(r"/c/n\d{8}$", page.url)
    plain = open_page("/", script=False)
    plain.locator("main input[type=search]").fill("crane")
    plain.locator("main form button").click()
    expect(plain.locator(".senses li")).not_to_have_count(0)
    assert plain.locator(".senses h2", has_text=re.compile("^crane$")).count() == 2


def test_further_photos_come_as_one_scrolls_and_the_address_follows(open_page: OpenPage) -> None:
    once = 3
    category = f"{first_category(open_page('/'))}?page_size={once}"
    plain = open_page(category, script=False)
    seen = [a.get_attribute("href") for a in plain.locator("[data-stream] > li > a").all()]
    total = int(plain.locator("[data-stream]").get_attribute("data-total") or 0)
    plain.locator("[data-more] a").click()
    expect(plain).to_have_url(re.compile("page_token="))
    assert len(seen) == once
    assert not set(seen) & {a.get_attribute("href") for a in plain.locator("[data-stream] > li > a").all()}
    page = open_page(category)
    shots = page.locator("[data-stream] > li")
    expect(shots).to_have_count(min(total, once * 5))  # what is near is fetched without being asked for
    expect(page.locator("body > [role=status]")).to_have_text(re.compile(rf"more photos?; \d+ of {total} are shown"))
    shots.last.scroll_into_view_if_needed()
    page.mouse.wheel(0, 2000)
    expect(page).to_have_url(re.compile("page_token="))
    expect(page.locator("[data-stream] > li > a").first).to_have_attribute("href", seen[0] or "")


def test_after_some_pages_one_has_to_ask_and_the_focus_goes_to_what_came(open_page: OpenPage) -> None:
    category = first_category(open_page("/"))
    page = open_page(f"{category}?page_size=1")
    shots = page.locator("[data-stream] > li")
    expect(shots).to_have_count(5)
    page.locator("[data-more] a").focus()
    page.keyboard.press("Enter")
    expect(shots).to_have_count(6)
    expect(shots.last.locator("> a")).to_be_focused()


def test_a_word_about_a_photo_is_said_and_taken_back(open_page: OpenPage) -> None:
    category = first_category(open_page("/"))
    page = open_page(category, script=False)
    page.locator("[data-stream] a").first.click()
    page.get_by_role("button", name=re.compile("^Confirm ")).first.click()
    expect(page.locator(".undo")).to_contain_text("Noted: it is")
    expect(page.get_by_role("heading", name="What people said")).to_be_visible()
    page.locator(".undo button").click()
    expect(page.locator(".undo")).to_contain_text("Taken back")
    expect(page.get_by_role("heading", name="What people said")).to_have_count(0)


@pytest.mark.parametrize("script", [True, False])
def test_the_uncertain_pile_is_worked_through(open_page: OpenPage, script: bool) -> None:
    page = open_page("/review", script=script)
    shown = page.locator(".review .frame img")
    address = shown.get_attribute("src")
    assert address
    if script:
        page.keyboard.press("1")
    else:
        page.locator(".guesses button").first.click()
    expect(page.locator(".undo")).to_contain_text("Noted: it is")
    expect(page.locator(f'.review .frame img[src="{address}"]')).to_have_count(0)
    if script:
        page.keyboard.press("u")
    else:
        page.locator(".undo button").click()
    expect(page.locator(".undo")).to_contain_text("Taken back")
    expect(shown).to_have_attribute("src", address)


def test_keys_can_be_switched_off_and_are_no_commands_while_one_types(open_page: OpenPage) -> None:
    page = open_page("/review")
    page.keyboard.press("k")
    field = page.get_by_role("combobox", name=re.compile("category"))
    expect(field).to_be_focused()
    page.keyboard.type("n1s")
    expect(field).to_have_value("n1s")
    page.locator("summary", has_text="Keys").click()
    page.get_by_label("Keys are on").uncheck()
    page.locator("h1").click()
    page.keyboard.press("1")
    page.keyboard.press("s")
    expect(page.locator(".undo")).to_have_count(0)
    assert page.url.endswith("/review")
