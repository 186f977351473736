"""Categories as the API shows them: names, counts that are as long as the lists, and whose photos whom are shown."""

import re
import string
from collections import Counter

import pytest
from api_helpers import Library
from fastapi.testclient import TestClient
from sqlalchemy import event, text

from api.views import gallery, shots
from pipeline.store import policies
from taxonomy.policy import parse_rule

DOG, PUG, ANIMAL, ENTITY = "n02084071", "n02110958", "n00015388", "n00001740"
SORTS = ("newest", "probability", "diverse")
FEWEST = 5  # users, as the settings have it


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Rough counts are made anew with every change, and windows are so small that a list has several."""
    monkeypatch.setattr(gallery, "PATIENCE", 0.0)
    monkeypatch.setattr(shots, "WINDOW", 7)
    monkeypatch.setattr(shots, "MIXED", 7)


@pytest.fixture(params=["true", "false"], ids=["by-user", "by-time"])
def way(request, database):
    """The photos of users who consent are found by whose they are, or by walking down from what is newest."""
    query = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = 'photos_of_category'"
    with database.transaction() as connection:
        shipped = connection.execute(text(query)).scalar_one()
        other, found = re.subn("by_user < by_time", request.param, shipped)
        assert found == 1
        connection.exec_driver_sql(other.replace("%", "%%"))


def get(client: TestClient, address: str, **query: object) -> dict:
    answer = client.get(f"/v1/categories{address}", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def pages(client: TestClient, address: str, key: str = "photos", between=lambda: None, **query: object) -> list[dict]:
    """All entries of a list, page by page; `between` is called between two pages."""
    found, token = [], None
    while True:
        page = get(client, address, **query, **({} if token is None else {"page_token": token}))
        assert len(page[key]) <= query.get("page_size", 50)
        found += page[key]
        token = page["next_page_token"]
        if token is None:
            return found
        between()


def ids(photos: list[dict]) -> list[int]:
    return [photo["photo_id"] for photo in photos]


# ---- names


def test_names_beginnings_and_what_lies_around_a_category(people: Library, client: TestClient) -> None:
    people.add("ann", "pug")
    cranes = get(client, "", name="CRANE")["categories"]
    assert {(crane["name"], crane["wnid"]) for crane in cranes} == {("crane", "n02012849"), ("crane", "n03126707")}
    assert len({crane["gloss"] for crane in cranes}) == 2
    (dog,) = get(client, "", name="domestic_dog")["categories"]
    assert (dog["wnid"], dog["name"], dog["photos"], dog["withheld"]) == (DOG, "dog", 1, False)
    assert "Canis familiaris" in dog["aliases"]
    assert [step["name"] for step in dog["path"]][-2:] == ["carnivore", "canine"]
    unknown = get(client, "", name="dogg")
    assert unknown["categories"] == []
    assert "dog" in unknown["near"]

    begun = get(client, "", prefix="pu", page_size=3)["categories"]
    assert (begun[0]["name"], len(begun)) == ("pug", 3)  # the only one with a photo
    inside = [found["name"] for found in get(client, "", prefix="retriever")["categories"]]
    assert inside[0] == "retriever"
    assert "golden retriever" in inside
    for query in (
        {},
        {"name": "dog", "prefix": "do"},
        {"name": ""},
        {"nome": "dog"},
        {"name": "dog", "page_size": 501},
    ):
        assert client.get("/v1/categories", params=query).status_code == 400, query

    for name in ["pug", "beagle", "tabby", "espresso"]:
        people.add("ann", name)
    dog = get(client, f"/{DOG}")
    assert (dog["photos"], dog["depth"], dog["labels"], dog["bits"]) == (3, 13, 118, 3.0831)
    assert [parent["name"] for parent in dog["parents"]] == ["canine", "domestic animal"]
    assert [(c["name"], c["photos"]) for c in dog["children"]] == [("pug", 2), ("hunting dog", 1)]
    pugs = ids(pages(client, f"/{PUG}/photos"))
    assert dog["children"][0]["cover"] == max(pugs)
    below = pages(client, f"/{DOG}/children", "children", page_size=4)
    assert len(below) == len({child["wnid"] for child in below}) == dog["children_total"]
    assert [child["photos"] for child in below] == sorted((child["photos"] for child in below), reverse=True)
    entity = get(client, f"/{ENTITY}")
    assert (entity["photos"], entity["vague"], entity["withheld"], entity["path"]) == (None, True, False, [])
    assert get(client, f"/{ENTITY}/photos")["photos"] == []
    assert get(client, f"/{ENTITY}/users")["users"] == []
    carnivore = get(client, f"/{dog['path'][-2]['wnid']}")
    assert [c["name"] for c in carnivore["children"]] == ["canine", "feline"]
    assert [c["name"] for c in get(client, f"/{dog['path'][-1]['wnid']}")["siblings"]] == ["feline"]
    for address in ("/n99999999", "/dog", "/n99999999/photos", "/n99999999/children", "/n99999999/users"):
        assert client.get(f"/v1/categories{address}").status_code == 404, address
    wrong = [{"sort": "best"}, {"page_token": "x"}, {"page_size": 0}, {"min_probability": 2}, {"order": "newest"}]
    for query in wrong:
        assert client.get(f"/v1/categories/{DOG}/photos", params=query).status_code == 400, query
    token = get(client, f"/{DOG}/photos", page_size=1)["next_page_token"]
    other = client.get(f"/v1/categories/{PUG}/photos", params={"page_token": token})
    assert (other.status_code, other.json()["code"]) == (400, "invalid_page_token")


# ---- counts and lists


@pytest.mark.usefixtures("way")
def test_lists_are_as_long_as_counts_say_while_photos_come(people: Library, client: TestClient, client_as) -> None:
    for n in range(16):
        user = f"user{n % 8}"
        people.add(user, ["pug", "beagle", "tabby"][n % 3], certain=0.9 - n % 4 / 100, day=n // 2, seconds=n % 2)
    for n in range(6):
        people.consent(f"user{n}")
    readers = {"everybody": client, "consents": client_as("user0"), "does not": client_as("user7")}
    stranger = client_as("nobody")
    for name, reader in {**readers, "stranger": stranger}.items():
        count = get(reader, f"/{ANIMAL}")["photos"]
        assert count == {"everybody": 16, "consents": 12, "does not": 14, "stranger": 12}[name]
        lists = {sort: pages(reader, f"/{ANIMAL}/photos", sort=sort, page_size=6) for sort in SORTS}
        for sort, found in lists.items():
            assert len(set(ids(found))) == len(found) == count, (name, sort)
        taken = [(photo["taken_at"], photo["photo_id"]) for photo in lists["newest"]]
        assert taken == sorted(taken, reverse=True)
        assert get(reader, f"/{ANIMAL}/photos", sort="probability")["ordered"] == 7
        windows = [lists["probability"][n : n + 7] for n in range(0, count, 7)]
        assert all(
            w == sorted(w, key=lambda p: (p["probability"], p["taken_at"], p["photo_id"]))[::-1] for w in windows
        )
        assert [set(ids(w)) for w in windows] == [set(ids(lists["newest"][n : n + 7])) for n in range(0, count, 7)]
        assert {photo["user"] for photo in lists["newest"]} <= {
            f"user{n}" for n in range(8 if name == "everybody" else 6)
        } | ({"user7"} if name == "does not" else set())
        whole = pages(reader, f"/{ANIMAL}/photos", sort="newest", min_probability=0.89)
        assert ids(whole) == [p["photo_id"] for p in lists["newest"] if p["probability"] >= 0.89]

    def one_more() -> None:
        """One that is newer than all, and one in the midst of the list."""
        people.add("user0", "pug", day=100)
        people.add("user1", "beagle", certain=0.95, day=5, seconds=30)

    for name, reader in readers.items():
        for sort in SORTS if name == "does not" else ("diverse",):
            before = set(ids(pages(reader, f"/{ANIMAL}/photos", sort=sort)))
            found = ids(pages(reader, f"/{ANIMAL}/photos", between=one_more, sort=sort, page_size=9))
            assert len(found) == len(set(found)), (name, sort)
            assert before <= set(found), (name, sort)


def test_diverse_takes_turns_of_kinds_and_users(people: Library, client: TestClient, monkeypatch) -> None:
    monkeypatch.setattr(shots, "MIXED", 100)
    for n in range(6):
        people.add("ann", "pug", day=50 + n)
    for user, name, day in [("ben", "pug", 1), ("ann", "tabby", 2), ("ben", "tabby", 3), ("ann", "espresso", 4)]:
        people.add(user, name, day=day)
    found = pages(client, f"/{ANIMAL}/photos", sort="diverse", page_size=3)
    assert len(found) == 9
    carnivore = get(client, "", name="carnivore")["categories"][0]["wnid"]
    turns = pages(client, f"/{carnivore}/photos", sort="diverse", page_size=3)
    assert [(p["headline"]["name"], p["user"]) for p in turns] == [
        ("pug", "ann"),
        ("tabby", "ben"),
        ("pug", "ben"),
        ("tabby", "ann"),
        *[("pug", "ann")] * 5,
    ][: len(turns)]
    assert turns == get(client, f"/{carnivore}/photos", sort="diverse")["photos"]


def test_who_has_most(people: Library, client: TestClient, client_as, monkeypatch) -> None:
    for user, photos in [("ann", 3), ("ben", 2), ("cem", 4), ("dan", 1), ("eve", 1), ("fay", 1), ("gus", 5)]:
        for n in range(photos):
            people.add(user, "pug", day=n)
        if user != "gus":
            people.consent(user)
    assert get(client, f"/{DOG}/users", limit=2)["users"] == [
        {"name": "gus", "photos": 5},
        {"name": "cem", "photos": 4},
    ]
    ann = client_as("ann")
    for few in (2000, 0):  # users who consent are asked one by one, or met on the way down from who has most
        monkeypatch.setattr("pipeline.store.categories.FEW_CONSENT", few)
        found = get(ann, f"/{DOG}/users", limit=3)["users"]
        assert [(person["name"], person["photos"]) for person in found] == [("cem", 4), ("ann", 3), ("ben", 2)]
        assert get(client_as("gus"), f"/{DOG}/users", limit=1)["users"] == [{"name": "gus", "photos": 5}]


# ---- policy, small counts, stamps


def test_what_the_policy_hides_is_not_there(people: Library, client: TestClient, client_as, database) -> None:
    for n in range(6):
        for name in ("pug", "beagle", "tabby", "Siamese cat"):
            people.add(f"user{n}", name, certain=0.95)
        people.consent(f"user{n}")
    with database.transaction() as connection:
        version = policies.add_version(connection, [parse_rule("coarsen pug to carnivore", people.taxonomy)]).version
        policies.apply(connection, version, people.taxonomy)
        gone = set(
            connection.execute(
                text("SELECT wnid FROM core.category JOIN core.active_effect e USING (node) WHERE e.hidden")
            ).scalars()
        )
    assert PUG in gone
    carnivore = get(client, "", name="carnivore")["categories"][0]["wnid"]
    for reader in (client, client_as("user0"), client_as("nobody")):
        assert reader.get(f"/v1/categories/{PUG}").status_code == 404
        assert reader.get(f"/v1/categories/{PUG}/photos").status_code == 404
        assert get(reader, "", name="pug")["categories"] == []
        assert "pug" not in get(reader, "", name="puh")["near"]
        assert PUG not in {found["wnid"] for found in get(reader, "", prefix="pu")["categories"]}
        for wnid in (carnivore, DOG, ANIMAL):
            view = reader.get(f"/v1/categories/{wnid}")
            if view.status_code == 404:
                assert wnid in gone
                continue
            told = view.json()
            count = told["own_photos"] if told["withheld"] else told["photos"]
            for sort in SORTS:
                found = pages(reader, f"/{wnid}/photos", sort=sort, page_size=20)
                assert len(set(ids(found))) == len(found) == count, (wnid, sort)
                assert not {photo["headline"]["wnid"] for photo in found if photo["headline"]} & gone
            assert not {card["wnid"] for card in told["children"]} & gone
        assert get(reader, f"/{carnivore}")["photos"] == 24


def everything(reader: TestClient) -> dict[str, dict]:
    """All categories that have a page, with what the reader is told of each."""
    begun = [get(reader, "", prefix=letter, page_size=500)["categories"] for letter in string.ascii_lowercase]
    return {found["wnid"]: found for each in begun for found in each}


def test_small_counts_cannot_be_had_by_subtraction(people: Library, client_as, database) -> None:
    """An attacker who knows the tree and every public answer takes lists apart, and is left with too much each time."""
    taxonomy = people.taxonomy
    names = {
        "pug": 7,
        "beagle": 6,
        "tabby": 6,
        "basenji": 2,
        "Siamese cat": 1,
        "Egyptian cat": 1,
        "espresso": 3,
        "hen": 6,
    }
    for name, users in names.items():
        for n in range(users):
            people.add(f"user{n}", name, certain=0.95 if n % 2 else 0.85, day=n)
    for n in range(7):
        people.consent(f"user{n}")
    people.add("me", "Persian cat")
    people.add("me", "basenji")
    reader = client_as("me")
    query = """SELECT c.wnid, sum(t.users) AS users, sum(t.photos) AS photos FROM core.shared_total t
               JOIN core.category c USING (node) WHERE NOT c.area_only GROUP BY 1"""
    with database.transaction() as connection:
        truth = {row.wnid: (row.users, row.photos) for row in connection.execute(text(query))}
    seen = everything(reader)
    assert len(seen) > 1000
    published = {wnid for wnid, view in seen.items() if view["photos"] is not None}
    withheld = {wnid for wnid, view in seen.items() if view["withheld"]}
    assert {
        taxonomy.synsets[int(taxonomy.shown_as[v])].wnid
        for name in ("basenji", "Siamese cat", "espresso")
        for v in taxonomy.find(name)
    } <= withheld
    assert all(truth[wnid][0] >= FEWEST for wnid in published)
    lists = {
        wnid: {p["photo_id"] for p in pages(reader, f"/{wnid}/photos", page_size=500) if not p["own"]}
        for wnid in published
    }
    labels = {wnid: taxonomy.label_sets[taxonomy.node(wnid)] for wnid in seen}
    for wnid in withheld:
        view, (users, photos) = seen[wnid], truth.get(wnid, (0, 0))
        assert view["photos"] is None
        if not photos and not view["own_photos"]:
            continue
        listed = pages(reader, f"/{wnid}/photos")
        assert all(photo["own"] for photo in listed)
        assert len(listed) == view["own_photos"]
        around = [lists[other] for other in published if labels[other] >= labels[wnid]]
        if 0 < users < FEWEST and around:
            left = set.intersection(*around)
            for other in published:
                left -= set() if labels[other] & labels[wnid] else lists[other]
            assert len(left) >= photos + FEWEST, view["name"]
    for photo in pages(reader, f"/{ANIMAL}/photos", sort="newest"):
        assert photo["own"] or photo["headline"] is None or photo["headline"]["wnid"] in published
    mine = get(reader, "", name="Persian cat")["categories"][0]
    assert (mine["photos"], mine["withheld"], mine["own_photos"]) == (None, True, 1)
    (other,) = Counter(p["user"] for p in pages(reader, f"/{mine['wnid']}/photos")).items()
    assert other == ("me", 1)


def test_who_has_the_answer_reads_no_tag(people: Library, client_as, as_api) -> None:
    for n in range(6):
        people.add(f"user{n}", "pug")
        people.consent(f"user{n}")
    reader = client_as("user0")
    addresses = [
        "?name=dog",
        "?prefix=do",
        f"/{DOG}",
        f"/{DOG}/children",
        f"/{DOG}/photos?sort=diverse",
        f"/{DOG}/users",
    ]
    etags = {address: reader.get(f"/v1/categories{address}").headers["etag"] for address in addresses}
    assert len(set(etags.values())) == len(addresses)
    asked: list[str] = []
    event.listen(as_api.engine, "before_cursor_execute", lambda _c, _k, statement, *_: asked.append(statement))
    for address, etag in etags.items():
        assert reader.get(f"/v1/categories{address}", headers={"If-None-Match": etag}).status_code == 304, address
    assert asked
    assert not re.search("photo_result|user_category|_total|photos_of_category|core.photo ", " ".join(asked))
    others = client_as("user1")
    assert others.get(f"/v1/categories/{DOG}", headers={"If-None-Match": etags[f"/{DOG}"]}).status_code == 200
    people.consent("user5", given=False)
    for address, etag in etags.items():
        assert reader.get(f"/v1/categories{address}", headers={"If-None-Match": etag}).status_code == 200, address
