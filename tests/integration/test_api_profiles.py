"""Profiles, months and photos of one user, over HTTP, as an API finds them behind row-level security."""

import pytest
from api_helpers import ClientAs, Library
from fastapi.testclient import TestClient
from PIL import Image
from sqlalchemy import event, text

from pipeline.ledger.jobs import find, submit
from pipeline.ledger.requests import JobRequest
from pipeline.records import WHOLE, TakenFrom
from pipeline.store import own_photos, periods
from pipeline.store.session import Database

PROFILE = "/v1/users/ada/profile"


def added(cells: list[dict[str, object]]) -> int:
    """What cells add up to, after each that is divided was found to be the sum of its own."""
    for cell in cells:
        assert not cell["cells"] or added(cell["cells"]) == cell["mass"]
    return sum(cell["mass"] for cell in cells)


@pytest.fixture
def album(people: Library) -> Library:
    """Ada's winter: dogs of three breeds, coffee, cars; two bursts, of pugs and of cars, and one of files."""
    for number, name in enumerate(["pug", "chow", "golden retriever"] * 3):
        people.add("ada", name, day=2 * number)
    for seconds in (0, 2, 61, 121):  # at most a minute from one to the next: a burst
        people.add("ada", "pug", day=20, seconds=seconds)
    people.add("ada", "pug", day=20, seconds=300)
    for day in (35, 40, 41):
        people.add("ada", "espresso", day=day)
    for seconds in (0, 5):
        people.add("ada", "sports car", day=45, seconds=seconds)
        people.add("ada", "seashore", day=46, seconds=seconds, taken_from=TakenFrom.OBJECT)
    people.add("bob", "tabby")
    return people


def test_cells_add_up_at_every_depth_in_every_unit_and_period(album: Library, client: TestClient) -> None:
    everything = client.get(f"{PROFILE}?depth=3").json()
    assert (everything["photos"], everything["mass"]) == (21, 21 * WHOLE)
    assert added(everything["cells"]) == 21 * WHOLE
    dog = next(cell for cell in everything["cells"] if cell["name"] == "dog")
    assert [cell["name"] for cell in dog["cells"]][:3] == ["pug", "golden retriever", "chow"]
    months = client.get("/v1/users/ada/months").json()["months"]
    assert months == [{"month": "2026-01-01", "photos": 14}, {"month": "2026-02-01", "photos": 7}]
    with album.database.transaction() as connection:  # as one that is gone, which no model counts any more
        connection.execute(
            text(
                "INSERT INTO core.photo (bucket_id, key, user_id, etag, size, taken_at, gone_at) "
                "SELECT bucket_id, key || unnest(ARRAY['1', '2']), user_id, etag, size, "
                "unnest(ARRAY[timestamptz '2026-01-05', '2030-01-05']), now() "
                "FROM core.photo ORDER BY photo_id LIMIT 1"
            )
        )
    assert client.get("/v1/users/ada/months").json()["months"] == months
    for unit, whole in (("photos", 21), ("moments", 17)):
        parts = [client.get(f"{PROFILE}?depth=2&unit={unit}&{at}").json() for at in ("to=2026-02", "from=2026-02")]
        assert all(added(part["cells"]) == part["mass"] for part in parts)
        assert (
            sum(part["mass"] for part in parts) == whole * WHOLE == client.get(f"{PROFILE}?unit={unit}").json()["mass"]
        )


def test_zooming_in_shows_what_lies_inside_and_its_own_other(album: Library, client: TestClient) -> None:
    dog = client.get(f"{PROFILE}?under=n02084071&k=2").json()
    assert (dog["under"]["name"], dog["under"]["path"][-1], dog["photos"]) == ("dog", "n02084071", 14)
    assert [(cell["kind"], cell["name"]) for cell in dog["cells"]][-1] == ("other", "other")
    assert added(dog["cells"]) == dog["mass"]
    whole = client.get(f"{PROFILE}?k=12").json()
    assert dog["mass"] == next(cell["mass"] for cell in client.get(PROFILE).json()["cells"] if cell["name"] == "dog")
    assert dog["under"]["share"] == pytest.approx(dog["mass"] / whole["mass"], abs=1e-6)
    pug = client.get(f"{PROFILE}?under=n02110958").json()
    assert [(cell["name"], cell["photos"], cell["share"]) for cell in pug["cells"]] == [("pug", 8, 1.0)]
    assert client.get(f"{PROFILE}?under=n01503061").json()["cells"] == []  # birds: there are none
    assert client.get(f"{PROFILE}?under=n99999999").status_code == 404


def test_moments_merge_bursts_that_know_their_time(album: Library, client: TestClient) -> None:
    on = "from=2026-01-21&to=2026-01-22"
    pugs = client.get(f"{PROFILE}?{on}&unit=moments").json()
    assert (pugs["photos"], client.get(f"{PROFILE}?{on}").json()["photos"]) == (2, 5)
    files = client.get(f"{PROFILE}?from=2026-02-15&unit=moments").json()
    assert [(cell["name"], cell["photos"]) for cell in files["cells"] if cell["kind"] == "category"] == [
        ("coast", 2),
        ("car", 1),
    ]


def test_as_of_leaves_out_what_came_later(album: Library, client: TestClient) -> None:
    with album.database.transaction() as connection:
        connection.execute(text("UPDATE core.photo SET created_at = '2026-03-01' WHERE taken_at < '2026-02-01'"))
        connection.execute(text("UPDATE core.photo SET created_at = '2026-04-01' WHERE taken_at >= '2026-02-01'"))
    then = client.get(f"{PROFILE}?as_of=2026-03-15T12:00Z").json()
    assert (then["photos"], then["as_of"]) == (14, "2026-03-15T12:00:00Z")
    assert added(then["cells"]) == then["mass"] == 14 * WHOLE
    assert client.get(f"{PROFILE}?as_of=2026-05").json()["photos"] == 21
    assert client.get(f"{PROFILE}?as_of=2026-02").json()["cells"] == []


def test_a_model_is_named_or_is_the_active_one(album: Library, client: TestClient) -> None:
    assert client.get(f"{PROFILE}?model=test%20model").json() == client.get(PROFILE).json()
    for name in ("another", "test%20model@ffff"):
        missing = client.get(f"{PROFILE}?model={name}")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    with album.database.transaction() as connection:
        connection.execute(
            text("UPDATE core.model SET dropped_at = now(), active = false WHERE name = 'test model'"),
        )
    assert client.get(f"{PROFILE}?model=test%20model").status_code == 404


def test_pictures_are_the_same_bytes_for_the_same_etag_and_304_reads_no_tag_table(
    album: Library, client: TestClient, as_api: Database
) -> None:
    statements: list[str] = []
    event.listen(as_api.engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for suffix, kind in ((".svg", "image/svg+xml"), (".png", "image/png"), (".csv", "text/csv; charset=utf-8")):
        first, again = (client.get(f"{PROFILE}{suffix}?depth=2") for _ in range(2))
        assert (first.status_code, first.headers["content-type"]) == (200, kind)
        assert (first.headers["etag"], first.content) == (again.headers["etag"], again.content)
        accepted = client.get(f"{PROFILE}?depth=2", headers={"Accept": kind.partition(";")[0]})
        assert (accepted.content, accepted.headers["etag"]) == (first.content, first.headers["etag"])
        statements.clear()
        known = client.get(f"{PROFILE}{suffix}?depth=2", headers={"If-None-Match": first.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        assert "user_category" not in "".join(statements)
        assert "photo_result" not in "".join(statements)
    etags = {client.get(f"{PROFILE}{more}").headers["etag"] for more in ("", ".svg", ".csv", "?k=3", "?unit=moments")}
    assert len(etags) == 5
    before = client.get(PROFILE).headers["etag"]
    album.add("bob", "tabby")  # whatever others do
    assert client.get(PROFILE, headers={"If-None-Match": before}).status_code == 304
    album.add("ada", "tabby")
    assert client.get(PROFILE, headers={"If-None-Match": before}).status_code == 200


def test_a_png_has_twice_the_pixels(album: Library, client: TestClient, tmp_path) -> None:
    file = tmp_path / "ada.png"
    largest = client.get(f"{PROFILE}.png?width=4096&height=4096")
    assert int.from_bytes(largest.content[16:20]) == int.from_bytes(largest.content[20:24]) == 3162  # ten million
    file.write_bytes(client.get(f"{PROFILE}.png?width=300&height=200").content)
    with Image.open(file) as picture:
        assert (picture.format, picture.size) == ("PNG", (600, 400))
        assert len(picture.convert("RGB").getcolors(100_000)) > 4


def test_photos_are_the_users_own_newest_first_in_pages(album: Library, client: TestClient) -> None:
    seen, address = [], "/v1/users/ada/photos?page_size=8"
    while address:
        page = client.get(address)
        seen += page.json()["photos"]
        address = page.links.get("next", {}).get("url")
    assert len({photo["photo_id"] for photo in seen}) == len(seen) == 21
    assert [photo["taken_at"] for photo in seen] == sorted((photo["taken_at"] for photo in seen), reverse=True)
    assert seen[0]["headline"]["name"] == "coast"
    assert 0.8 < seen[0]["headline"]["probability"] <= 1
    token = client.get("/v1/users/ada/photos?page_size=8").json()["next_page_token"]
    assert client.get(f"/v1/users/bob/photos?page_token={token}").json()["code"] == "invalid_page_token"


def test_the_count_of_a_category_is_the_length_of_its_list(
    album: Library, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for looked_at in (5_000, 2):  # with 2, pages of a rare category are short, and not the last
        monkeypatch.setattr(own_photos, "LOOKED_AT", looked_at)
        for period, count in (("", 14), ("&from=2026-01-10&to=2026-01-22", 9), ("&from=2027-01", 0)):
            seen, address = [], f"/v1/users/ada/photos?under=n02084071{period}&page_size=3"
            while address:
                page = client.get(address)
                assert page.json()["count"] == count
                seen += page.json()["photos"]
                address = page.links.get("next", {}).get("url")
            assert len({photo["photo_id"] for photo in seen}) == len(seen) == count


def test_too_many_photos_are_a_problem_that_says_what_to_do(
    album: Library, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periods, "MOST_PHOTOS", 10)
    for more in ("unit=moments", "as_of=2030-01", "from=2026-01"):
        answer = client.get(f"{PROFILE}?{more}")
        assert (answer.status_code, answer.json()["code"]) == (422, "too_many_photos")
        assert "shorter period" in answer.json()["detail"]
    assert client.get(f"{PROFILE}?from=2026-02").status_code == 200
    assert client.get(PROFILE).status_code == 200


def test_what_makes_no_sense_is_refused_by_name(people: Library, client: TestClient) -> None:
    people.add("ada", "pug")
    wrong = ("depth=4", "depth=0", "unit=bursts", "from=yesterday", "to=2026-13", "to=2026-02-30", "under=dog", "x=1")
    for more in (*wrong, "to=2026-01&from=2026-02"):
        answer = client.get(f"{PROFILE}?{more}")
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == f"query.{more.partition('=')[0]}"


def test_who_is_bound_to_a_user_finds_nothing_of_another(album: Library, client_as: ClientAs) -> None:
    bob = client_as("bob")
    assert bob.get("/v1/users/bob/profile").json()["photos"] == 1
    assert [user["name"] for user in bob.get("/v1/users").json()["users"]] == ["bob"]
    album.consent("ada")  # consent is for pages across users; a profile stays its owner's
    for about in ("profile", "profile.png", "months", "photos", "profile?from=2026-01"):
        other, nobody = (bob.get(f"/v1/users/{user}/{about}").json() for user in ("ada", "eve"))
        assert (other["status"], other["detail"].replace("ada", "eve")) == (404, nobody["detail"])


def test_users_come_in_pages(album: Library, client: TestClient) -> None:
    album.add("cleo", "pug")
    first = client.get("/v1/users?page_size=2")
    assert [user["name"] for user in first.json()["users"]] == ["ada", "bob"]
    last = client.get(first.links["next"]["url"]).json()
    assert ([user["name"] for user in last["users"]], last["next_page_token"]) == (["cleo"], None)


def test_new_photos_are_asked_for_once_ahead_of_bulk_work(
    album: Library, client: TestClient, client_as: ClientAs
) -> None:
    address = "/v1/users/ada:refresh"
    assert client.get(address).json()["state"] == "never"
    first = client.post(address)
    assert (first.status_code, first.json()["listing_job_id"], first.json()["submitted"]) == (202, None, True)
    assert first.headers["location"] == f"/v1/jobs/{first.json()['job_id']}"
    again = client_as("ada").post(address)
    assert (again.status_code, again.json()) == (202, {**first.json(), "submitted": False})
    assert again.headers["location"] == address  # whoever is bound to a user sees no jobs
    assert client_as("ada").get(address).json()["state"] == "running"
    assert client_as("bob").post(address).status_code == client_as("bob").get(address).status_code == 404
    assert client.post("/v1/users/nobody:refresh").status_code == 404
    request = JobRequest(kind="folder", source=str(album.folder), user_rule="{user}/{photo}", fixed_user="ada")
    with album.database.transaction() as connection:
        submit(connection, request, album.model.model_id)
    wider = client.post(address).json()
    assert (wider["job_id"], wider["submitted"]) == (first.json()["job_id"], True)
    with album.database.transaction() as connection:
        found = {job_id: find(connection, job_id) for job_id in (wider["job_id"], wider["listing_job_id"])}
    known, listed = found.values()
    assert (known.kind, known.source, known.priority, known.scope) == ("ledger", "user:ada", 100, "missing")
    assert (listed.kind, listed.source, listed.fixed_user) == ("folder", str(album.folder), "ada")
    assert (listed.keep_missing, listed.priority) == (True, 100)
    assert client.post(address).json() == {**wider, "submitted": False}
    with album.database.transaction() as connection:
        connection.execute(text("UPDATE core.job SET state = 10, finished_at = now()"))
    ended = client_as("ada").get(address).json()
    assert (ended["state"], ended["tagged"], ended["waiting"]) == ("ended", 0, 0)
    assert ended["finished_at"] >= ended["asked_at"]
    assert client.post(address).json()["job_id"] > wider["listing_job_id"]
