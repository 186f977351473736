"""Two users, and two periods of one, side by side over HTTP."""

import csv
import io
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
from api_helpers import STRANGE, ClientAs, Library
from fastapi.testclient import TestClient

ADA_BEN = "/v1/users/ada/compare/ben"


@pytest.fixture
def album(people: Library) -> Library:
    """Ada: pugs, and in February coffee; Ben: coffee and cars; Cleo, whom nobody may see: gorillas."""
    for day in range(8):
        people.add("ada", "pug", day=day)
    for day in (35, 36, 40):
        people.add("ada", "espresso", day=day)
    for day in range(4):
        people.add("ben", "espresso", day=day)
        people.add("ben", "sports car", day=day)
    people.add("cleo", "gorilla")
    return people


def test_two_users_share_one_layout_and_are_told_apart_by_lists(album: Library, client: TestClient) -> None:
    there, back = client.get(ADA_BEN).json(), client.get("/v1/users/ben/compare/ada").json()
    assert (there["a"]["name"], there["a"]["photos"], there["b"]["photos"]) == ("ada", 11, 8)
    for side in ("a", "b"):
        assert sum(cell[f"mass_{side}"] for cell in there["cells"]) == there[side]["photos"] * 10_000
    assert sum(cell["difference"] for cell in there["cells"]) == pytest.approx(0, abs=1e-5)
    assert there["only_a"][0]["name"] in {"pug", "dog"}
    assert there["only_b"][0]["name"] in {"sports car", "car"}
    assert 0 < there["similarity"] < 1
    assert there["widest"]
    told = [[(each["wnid"], each["score"]) for each in found] for found in (back["only_a"], there["only_b"])]
    assert (back["similarity"], told[0]) == (there["similarity"], told[1])
    assert [(cell["wnid"], cell["share"], -cell["difference"]) for cell in back["cells"]] == [
        (cell["wnid"], cell["share"], cell["difference"]) for cell in there["cells"]
    ]
    alike = client.get("/v1/users/ada/compare/ada").json()
    assert alike["similarity"] == 1
    assert (alike["only_a"], alike["only_b"], alike["differences"], alike["widest"]) == ([], [], [], [])


def test_pictures_and_tables_of_a_comparison(album: Library, client: TestClient) -> None:
    for suffix, kind in ((".svg", "image/svg+xml"), (".png", "image/png"), (".csv", "text/csv; charset=utf-8")):
        first, again = (client.get(f"{ADA_BEN}{suffix}") for _ in range(2))
        assert (first.headers["content-type"], first.content) == (kind, again.content)
        known = client.get(f"{ADA_BEN}{suffix}", headers={"If-None-Match": first.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        accepted = client.get(ADA_BEN, headers={"Accept": kind.partition(";")[0]})
        assert (accepted.content, accepted.headers["etag"]) == (first.content, first.headers["etag"])
    titles = [each.text for each in ElementTree.fromstring(client.get(f"{ADA_BEN}.svg").content).iter() if each.text]
    assert any("ada" in title and "ben" in title and "%" in title for title in titles)
    rows = list(csv.DictReader(io.StringIO(client.get(f"{ADA_BEN}.csv").text)))
    assert {row["list"] for row in rows} == {"cells", "both", "only_a", "only_b", "differences"} - (
        {"both"} if not client.get(ADA_BEN).json()["both"] else set()
    )


def test_names_that_end_like_a_file(album: Library, client: TestClient) -> None:
    for name in ("ben.svg", *(name for name in STRANGE if not name.endswith("/profile"))):
        album.add(name, "pug")
        answer = client.get("/v1/users/ada/compare/" + quote(name, safe=""))
        assert (answer.status_code, answer.json()["b"]["name"]) == (200, name)
    assert client.get(f"{ADA_BEN}.svg.csv").text.startswith("list,")  # and that one's files


def test_periods_of_one_user_are_compared(album: Library, client: TestClient) -> None:
    diff = "/v1/users/ada/profile/diff"
    changed = client.get(f"{diff}?from=2026-02&to=2026-03").json()
    assert (changed["a"]["name"], changed["b"]["name"]) == ("February 2026", "January 2026")
    assert (changed["a"]["photos"], changed["b"]["photos"]) == (3, 8)
    assert changed["only_a"][0]["name"] == "coffee"
    same = client.get(f"{diff}?from=2026-01&to=2026-02&against_from=2026-01&against_to=2026-02").json()
    assert (same["similarity"], same["differences"]) == (1, [])
    assert all(cell["difference"] == 0 for cell in same["cells"])
    days = client.get(f"{diff}?from=2026-01-05&to=2026-01-09").json()
    assert days["b"]["period"] == {"from": "2026-01-01T00:00:00Z", "to": "2026-01-05T00:00:00Z"}
    assert client.get(f"{diff}.svg?from=2026-02&to=2026-03").headers["content-type"] == "image/svg+xml"
    for wrong in ("from=2026-02", "from=2026-02&to=2026-03&against_from=2026-01", "from=2026-03&to=2026-02"):
        assert client.get(f"{diff}?{wrong}").status_code == 400
    empty = client.get(f"{diff}?from=2027-02&to=2027-03")
    assert (empty.status_code, empty.json()["code"]) == (422, "nothing_to_compare")
    assert empty.json()["detail"] == "There are no analysed photos of February 2027; there is nothing to compare."


def test_who_is_bound_compares_only_what_may_be_seen(album: Library, client_as: ClientAs) -> None:
    ada = client_as("ada")
    nobody = ada.get("/v1/users/ada/compare/eve").json()["detail"]
    for address in (ADA_BEN, "/v1/users/ben/compare/ada", "/v1/users/ben/compare/cleo"):
        answer = ada.get(address)
        assert (answer.status_code, answer.json()["detail"].replace("ben", "eve")) == (404, nobody)
    album.consent("ben")
    seen = ada.get(ADA_BEN)
    assert seen.status_code == 200
    known = {"If-None-Match": seen.headers["etag"]}
    assert ada.get(ADA_BEN, headers=known).status_code == 304
    before = next(each["background"] for each in seen.json()["only_a"])
    album.consent("ada")  # the background is those who consent, and now Ada is one of them
    again = ada.get(ADA_BEN, headers=known)
    assert again.status_code == 200
    assert next(each["background"] for each in again.json()["only_a"]) > before
    album.add("ben", "tabby")
    assert ada.get(ADA_BEN, headers={"If-None-Match": again.headers["etag"]}).status_code == 200
    album.consent("ben", given=False)
    assert ada.get(ADA_BEN, headers={"If-None-Match": "*"}).status_code == 404
