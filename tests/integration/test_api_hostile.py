"""Requests that nobody sends who means well: each is refused by a sentence, and none is an error of ours."""

import httpx
import pytest
from api_helpers import Library
from fastapi.testclient import TestClient

NOWHERE = "n00000000"  # no category
#: (address, status)
HOSTILE = [
    *((address, 404) for address in ("/v1/users/a%00b/profile", "/v1/users/ann/compare/a%00b", "/u/a%00b", "/u/%00")),
    *((address, 404) for address in ("/compare/a%00b/ann", "/v1/users/a%00b/months", "/v1/users/a%00b/photos")),
    *((address, 400) for address in ("/v1/users?after=a%00b", "/people?after=%00")),
    ("/v1/users/%ff%fe/profile", 404),
    ("/v1/users/%ED%A0%80/profile", 404),  # half of a surrogate pair
    ("/v1/categories?name=%00", 200),
    ("/?q=%00", 200),
    # The ends of time.
    ("/v1/users/ann/profile?from=0001-01&to=9999-12", 200),
    ("/v1/users/ann/profile/diff?from=0001-01&to=9999-12", 422),
    ("/u/ann?from=0001-01&to=9999-11", 200),
    ("/u/ann?to=9999-12", 400),
    ("/static/..%2f..%2fapp.py", 404),
    ("/static/%2e%2e/%2e%2e/app.py", 404),
]


def test_what_nobody_means_is_no_error_of_ours(people: Library, client: TestClient) -> None:
    people.add("ann", "pug")
    found = {address: client.get(address, headers={"Accept": "application/json"}) for address, _ in HOSTILE}
    assert {address: answer.status_code for address, answer in found.items()} == dict(HOSTILE)
    answer = client.post("/v1/users/a%00b:refresh")
    assert answer.status_code == 404, answer.text


def test_what_is_not_there_is_unchanged_for_nobody(people: Library, client: TestClient) -> None:
    photo = people.add("ann", "pug")
    for address in (
        f"/v1/categories/{NOWHERE}",
        f"/v1/users/ann/profile?under={NOWHERE}",
        f"/v1/photos/{photo}/tags/{NOWHERE}/explanation",
        "/v1/users/ben/profile",
    ):
        assert client.get(address, headers={"If-None-Match": "*"}).status_code == 404, address


@pytest.mark.parametrize(("length", "status"), [("9" * 5000, 413), ("1" * 19, 413), ("-1", 415)])
def test_lengths_are_refused_by_their_digits(client: TestClient, length: str, status: int) -> None:
    sent = httpx.Headers({"Content-Type": "text/plain", "Content-Length": length})
    assert client.post("/v1/photos/1/verdicts", headers=sent, content=b"{}").status_code == status


def test_whoever_signs_out_leaves_no_page_behind(client: TestClient) -> None:
    answer = client.post("/sign-out", headers={"Origin": "http://127.0.0.1"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["clear-site-data"]) == (303, '"cache"')
