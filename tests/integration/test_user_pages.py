"""The pages about people: what they show, what they refuse, and what they say of what did not change."""

import re
from urllib.parse import quote

import pytest
from api_helpers import STRANGE, ClientAs, Library
from fastapi.testclient import TestClient

from api.auth import Scope

DOG = "n02084071"


def shown(page: str) -> list[str]:
    """The names on the map, in its order."""
    return re.findall(r'class="plate"><strong>([^<]+)</strong>', page)


def test_a_pictograph_and_what_is_inside_of_its_tiles(people: Library, client: TestClient) -> None:
    for day, name in enumerate(["pug", "pug", "pug", "beagle", "beagle", "beagle", "espresso", "espresso"], 1):
        people.add("ada", name, day=day * 20)
    whole = client.get("/u/ada?k=2").text
    dog, coffee, *_ = shown(whole)
    assert (dog, coffee) == ("dog", "coffee")
    assert f'href="/u/ada?under={DOG}&amp;k=2"' in whole
    inside = client.get(f"/u/ada?under={DOG}&k=2").text
    assert {"pug", "beagle"} <= {*shown(inside)}
    assert '<span aria-current="page">dog</span>' in inside
    assert re.search(r'href="/v1/users/ada/profile\.csv\?under=n02084071&amp;k=2"', inside)
    months = re.findall(r'<option value="(\d{4}-\d\d)"', whole)
    first = client.get(f"/u/ada?to={months[0]}")
    assert "until Jan 2026" in first.text
    assert shown(first.text)[0] == "pug"
    for address in re.findall(r'href="(/u/ada[^"#]*)"', whole + inside):
        assert client.get(address.replace("&amp;", "&")).status_code == 200, address


def test_a_page_that_is_known_is_not_sent_again(people: Library, client: TestClient) -> None:
    people.add("ada", "pug")
    people.add("bob", "espresso")
    for address in ("/u/ada", f"/u/ada?under={DOG}", "/u/ada?unit=moments", "/compare/ada/bob"):
        first = client.get(address)
        assert first.status_code == 200
        known = {"If-None-Match": first.headers["etag"]}
        again = client.get(address, headers=known)
        assert (again.status_code, again.content) == (304, b"")
        people.add("ada", "beagle")
        assert client.get(address, headers=known).status_code == 200


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/u/nobody", 404),
        ("/u/ada?under=n99999999", 404),
        ("/u/ada?from=yesterday", 400),
        ("/u/ada?from=2026-02&to=2026-01", 400),
        ("/u/ada?k=13", 400),
        ("/u/ada?colour=red", 400),
        ("/compare/ada", 404),
        ("/compare/ada/nobody", 404),
        ("/compare/ada/bob/cleo", 404),
        ("/mosaic.css?m=0", 400),
        ("/mosaic.css?m=1,2,}body{", 400),
        ("/mosaic.css?m=" + ",".join(["1"] * 17), 400),
    ],
)
def test_what_cannot_be_shown_is_said_on_a_page(people: Library, client: TestClient, address: str, status: int) -> None:
    people.add("ada", "pug")
    answer = client.get(address, headers={"Accept": "text/html"})
    assert answer.status_code == status
    assert answer.text.startswith("<!doctype html>")


def test_two_of_any_name_are_compared(people: Library, client: TestClient) -> None:
    for name in STRANGE:
        people.add(name, "pug")
        people.add(name, "espresso")
    for a, b in zip(STRANGE, reversed(STRANGE), strict=True):
        asked = client.get("/compare", params={"a": a, "b": b}, follow_redirects=False)
        assert (asked.status_code, asked.headers["location"]) == (
            303,
            f"/compare/{quote(a, safe='')}/{quote(b, safe='')}",
        )
        page = client.get(asked.headers["location"])
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert '<p class="big">100<small> %</small></p>' in page.text
    assert 'value="tail/"' in client.get("/compare?a=tail/").text


def test_a_users_key_sees_their_own_page_and_no_other(people: Library, client_as: ClientAs, client: TestClient) -> None:
    for name in ("ada", "bob"):
        people.add(name, "pug")
    ada = client_as("ada", Scope.PROFILE_READ)
    assert ada.get("/u/ada").status_code == 200
    hidden, missing = ada.get("/u/bob"), ada.get("/u/b0b")
    assert (hidden.status_code, hidden.json()["detail"]) == (404, missing.json()["detail"].replace("b0b", "bob"))
    assert ada.get("/compare/ada/bob").status_code == 404
    listed = ada.get("/people").text
    assert 'href="/u/ada"' in listed
    assert "bob" not in listed
    assert 'href="/jobs"' not in listed  # what a key may not do is not offered


def test_the_sheet_of_places_is_kept_for_ever(client: TestClient) -> None:
    sheet = client.get("/mosaic.css?m=3,1")
    assert (sheet.status_code, sheet.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in sheet.headers["cache-control"]
    assert sheet.text.count(".tile-2 ") == 2
