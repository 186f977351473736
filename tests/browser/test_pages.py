"""Every page, in every look: axe finds nothing, nothing is too wide, and what strangers wrote is text."""

import re
from collections.abc import Callable

import hostile
import pytest
from browsing import OpenPage, Site
from playwright.sync_api import Page, expect

from api.names import brief, encoded, seen

BUDGET_BYTES = 150_000  # transferred for a page without its photos
JOBS = range(1, 8)  # the pipeline's own; new, running, paused, being cancelled, cancelled, failed

#: By name where it is: every page, and what it can show.
PAGES = {
    "explore": "/",
    "senses": "/?q=crane",
    "no sense": "/?q=zzzzzz",
    "people": "/people",
    "user": "{user}",
    "zoomed": "{user}?under=n00015388",
    "period": "{user}?from=2024-03&to=2024-08",
    "moments": "{user}?k=12&unit=moments",
    "nobody's period": "{user}?from=1999-01&to=1999-02",
    "leftward": "{leftward}",
    "two": "/compare",
    "compared": "{compared}",
    "category": "/c/n00015388",
    "newest": "/c/n00015388?sort=newest",
    "diverse": "/c/n00015388?sort=diverse",
    "vague": "/c/n00001740",
    "photo": "{photo}",
    "why": "{photo}?why=n00015388",
    "review": "/review",
    "jobs": "/jobs",
    **{f"job {job}": f"/jobs/{job}" for job in JOBS},
    "cancel": "/jobs/2/cancel",
    "failed photos": "/jobs/1/photos?state=failed",
    "photos done": "/jobs/1/photos?state=succeeded",
    "sign in": "/sign-in",
}


@pytest.fixture(scope="module")
def places(site: Site) -> dict[str, str]:
    return {"user": site.user(), "leftward": site.user(2), "compared": site.comparison(0, 2), "photo": "/p/1"}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_without_flaw_in_every_look(
    name: str, places: dict[str, str], open_page: OpenPage, flaws: Callable[[Page], list[str]]
) -> None:
    page = open_page("")
    sizes: list[int] = []
    page.on("requestfinished", lambda request: sizes.append(0 if request.resource_type == "image" else _size(request)))
    answer = page.goto(PAGES[name].format(**places))
    assert answer is not None
    assert answer.status == 200
    assert flaws(page) == []
    assert 0 < sum(sizes) < BUDGET_BYTES


def _size(request: object) -> int:
    sizes = request.sizes()  # type: ignore[attr-defined]
    return int(sizes["responseBodySize"] + sizes["responseHeadersSize"])


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/u/nobody", 404), ("/people?x=1", 400)])
def test_an_error_is_a_page(path: str, status: int, open_page: OpenPage, flaws: Callable[[Page], list[str]]) -> None:
    page = open_page(path, status=status)
    assert flaws(page) == []
    page.locator("main a").click()
    expect(page).to_have_url(re.compile(r"/$"))


def test_who_has_no_key_is_asked_for_it_and_sees_no_more_than_it_opens(
    site: Site, open_page: OpenPage, flaws: Callable[[Page], list[str]]
) -> None:
    page = open_page(site.user(), base=site.closed_url)
    expect(page).to_have_url(re.compile("/sign-in"))
    page = open_page("/sign-in", base=site.closed_url, script=False, later=401)
    page.get_by_label("Key").fill("no key")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page = open_page("/sign-in", base=site.closed_url, later=403)
    page.get_by_label("Key").fill(site.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_have_text(site.users[0])
    assert flaws(page) == []
    assert page.get_by_role("link", name="Jobs").count() == 0
    answer = page.goto("/jobs")
    assert answer is not None
    assert answer.status == 403
    assert flaws(page) == []
    page.goto("/")
    assert flaws(page) == []
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in"))


# ---- what strangers wrote


def test_whatever_somebody_is_called_is_text_and_has_an_address(site: Site, open_page: OpenPage) -> None:
    page = open_page("")
    for name in hostile.NAMES:
        page.goto(f"/u/{encoded(name)}", wait_until="domcontentloaded")
        assert page.locator("h1").text_content() == seen(name)
        page.locator("nav.choices a", has_text="Moments").click()
        expect(page.locator(".choices [aria-current]").first).to_have_text("Moments")
        page.goto(f"/compare/{encoded(name)}/{encoded(site.users[0])}", wait_until="domcontentloaded")
        assert page.locator("h1 bdi").first.text_content() == brief(name)
        assert page.locator("h1 a").first.get_attribute("href") == f"/u/{encoded(name)}"
        assert page.evaluate("mark => mark in window", hostile.MARK) is False


def test_all_people_are_listed_and_their_links_lead_to_them(
    site: Site, open_page: OpenPage, flaws: Callable[[Page], list[str]]
) -> None:
    page = open_page("/people", script=False)
    listed = _listed(page)
    page.get_by_role("link", name="Next page").click()
    listed |= _listed(page)
    strangers = {f"/u/{encoded(name)}": brief(name) for name in (*hostile.NAMES, *site.users)}
    assert {address: listed.get(address) for address in strangers} == strangers
    assert flaws(open_page(page.url)) == []


def _listed(page: Page) -> dict[str | None, str | None]:
    links = page.locator(".cover").all()
    return {link.get_attribute("href"): link.locator("strong").text_content() for link in links}
