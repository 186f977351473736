"""Single photos over HTTP: what is told to whom, every parameter of the tags, why, thumbnails, and what is cached."""

from collections.abc import Iterator
from contextlib import contextmanager

from api_helpers import ClientAs, Library
from fastapi.testclient import TestClient
from sqlalchemy import event, text

from pipeline.store import policies
from pipeline.store.catalogue import store_decision
from pipeline.store.session import Database
from taxonomy.decide import Decision
from taxonomy.policy import parse_rule

DOG, ANIMAL, CANINE, DOMESTIC, PUG, VEHICLE = (
    "n02084071",
    "n00015388",
    "n02083346",
    "n01317541",
    "n02110958",
    "n04524313",
)
TAG_TABLES = ("photo_result", "user_category", "category_total", "shared_total", "core.verdict", "core.thumbnail")


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """What the server is asked meanwhile."""
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def hide(people: Library, *rules: str) -> None:
    with people.database.transaction() as connection:
        made = policies.add_version(connection, [parse_rule(rule, people.taxonomy) for rule in rules])
        policies.apply(connection, made.version, people.taxonomy)
        connection.execute(text("UPDATE core.model_revision SET revision = revision + 1 WHERE slot = 64"))


def names(answer: dict[str, object]) -> list[str]:
    return [tag["name"] for tag in answer["tags"]]  # type: ignore[attr-defined]


def test_a_photo_says_what_is_known_of_it(people: Library, client: TestClient) -> None:
    photo, faint = people.add("ada", "pug"), people.add("ada", "pug", certain=0.3)
    found = client.get(f"/v1/photos/{photo}").json()
    assert (found["user"], found["bucket"], found["state"], found["taken_from"]) == ("ada", "file://", "tagged", "exif")
    assert (found["key"].endswith("-pug.jpg"), found["size"] > 1000, found["stale"]) == (True, True, False)
    assert found["taken_at"] == "2026-01-02T12:00:00Z"
    headline = found["headline"]
    assert (headline["wnid"], headline["probability"], headline["headline"]) == (PUG, 0.9, True)
    assert found["versions"]["taxonomy_sha256"] == people.taxonomy.sha256
    nothing = client.get(f"/v1/photos/{faint}").json()
    assert (nothing["state"], nothing["headline"], nothing["reason"]) == ("abstained", None, None)

    with people.database.transaction() as connection:
        connection.execute(
            text(
                "UPDATE core.photo_result SET outcome = 12, nodes = '{}', masses = '{}', tags = '{}', "
                "headline = NULL WHERE photo_id = :photo"
            ),
            {"photo": faint},
        )
        connection.execute(text("DELETE FROM core.photo_result WHERE photo_id = :photo"), {"photo": photo})
        connection.execute(text("UPDATE core.user_revision SET revision = revision + 1"))
    failed = client.get(f"/v1/photos/{faint}").json()
    assert (failed["state"], failed["reason"]) == ("failed", "corrupt")
    awaited = client.get(f"/v1/photos/{photo}/tags").json()
    assert (awaited["state"], awaited["tags"], awaited["decision_revision"]) == ("awaiting", [], None)
    unseen = client.get(f"/v1/photos/{photo}/tags/{DOG}/explanation")
    assert (unseen.status_code, unseen.json()["code"]) == (409, "photo_not_seen")


def test_others_see_a_photo_only_with_consent_and_not_whose_it_is(people: Library, client_as: ClientAs) -> None:
    photo = people.add("ada", "pug")
    people.add("ben", "pug")
    ada, ben, everybody = client_as("ada"), client_as("ben"), client_as(None)
    assert ada.post(f"/v1/photos/{photo}/verdicts", json={"node": DOG, "verdict": "confirm"}).status_code == 201
    addresses = [f"/v1/photos/{photo}{rest}" for rest in ("", "/tags", f"/tags/{DOG}/explanation", "/thumbnail")]
    for address in addresses:
        refused, absent = ben.get(address), ben.get(address.replace(f"/{photo}", "/999999"))
        assert (refused.status_code, absent.status_code) == (404, 404), address
        assert refused.json()["detail"].replace(str(photo), "999999") == absent.json()["detail"]
        assert ada.get(address).status_code == everybody.get(address).status_code == 200
    people.consent("ada")
    assert [ben.get(address).status_code for address in addresses] == [200] * 4
    seen, own = ben.get(addresses[0]).json(), ada.get(addresses[0]).json()
    assert (seen["user"], seen["bucket"], seen["key"], seen["verdicts"]) == (None, None, None, [])
    assert (own["user"], own["bucket"], len(own["verdicts"])) == ("ada", "file://", 1)
    assert everybody.get(addresses[0]).json()["key"] == own["key"]
    assert seen["headline"] == own["headline"]
    assert {tag["verdict"] for tag in ben.get(addresses[1]).json()["tags"]} == {None}
    for asked in (
        ben.get(f"/v1/photos/{photo}/verdicts"),
        ben.post(f"/v1/photos/{photo}/verdicts", json={"node": DOG, "verdict": "reject"}),
        ben.delete(f"/v1/photos/{photo}/verdicts/{DOG}"),
    ):
        assert asked.status_code == 404
    people.consent("ada", given=False)
    assert ben.get(addresses[0]).status_code == 404


FILTERED: list[tuple[str, list[str]]] = [
    ("", ["pug"]),
    ("?include=ancestors&max_labels=3", ["pug", "dog", "domestic animal"]),
    (f"?not_under={PUG}", ["dog"]),
    (f"?not_under={DOG}", ["domestic animal", "canine"]),
    (f"?not_under={DOG}&not_under={CANINE}", ["domestic animal", "carnivore"]),
    (f"?under={DOG}", ["pug"]),
    (f"?under={VEHICLE}", []),
    (f"?under={VEHICLE}&under={CANINE}&include=ancestors", ["pug", "dog", "canine"]),
    ("?min_probability=0.9", ["pug"]),
    ("?min_probability=0.91", ["dog"]),  # a pug holds 0.9, a dog 0.9117
    ("?min_probability=0.9999", []),
    ("?max_labels=1&include=ancestors", ["pug"]),
]


def test_tags_are_filtered_as_asked(people: Library, client: TestClient) -> None:
    photo = people.add("ada", "pug")
    for query, expected in FILTERED:
        assert names(client.get(f"/v1/photos/{photo}/tags{query}").json()) == expected, query


def test_labels_that_are_no_tags_can_be_had_too(people: Library, client: TestClient) -> None:
    photo = people.add("ada", "pug", certain=0.3)
    assert client.get(f"/v1/photos/{photo}/tags").json()["tags"] == []
    (leaf,) = client.get(f"/v1/photos/{photo}/tags?include=leaves").json()["tags"]
    assert (leaf["name"], leaf["kind"], leaf["probability"], leaf["source"]) == ("pug", "leaf", 0.3, "model")
    assert client.get(f"/v1/photos/{photo}/tags?include=leaves&min_probability=0.31").json()["tags"] == []


REFUSED = [
    ("?side=1", "unknown_parameter", "side"),
    ("?max_labels=1&max_labels=2", "repeated_parameter", "max_labels"),
    ("?max_labels=0", "invalid_parameter", "max_labels"),
    ("?min_precision=1", "invalid_parameter", "min_precision"),
    ("?min_precision=nan", "invalid_parameter", "min_precision"),
    ("?min_probability=1.5", "invalid_parameter", "min_probability"),
    ("?under=n99999999", "invalid_parameter", "under"),
    ("?not_under=dog", "invalid_parameter", "not_under"),
    ("?include=parents", "invalid_parameter", "include"),
]


def test_what_cannot_be_asked_is_refused_by_name(people: Library, client: TestClient) -> None:
    photo = people.add("ada", "pug")
    for query, code, says in REFUSED:
        refused = client.get(f"/v1/photos/{photo}/tags{query}")
        assert (refused.status_code, refused.json()["code"]) == (400, code), query
        assert says in refused.json()["detail"]


def test_a_precision_is_promised_by_a_calibration_or_not_at_all(people: Library, client: TestClient) -> None:
    photo = people.add("ada", "pug")
    address = f"/v1/photos/{photo}/tags?min_precision="
    none = client.get(f"{address}0.9")
    assert (none.status_code, none.json()["code"]) == (422, "precision_not_promised")
    assert "pictograph calibrate" in none.json()["detail"]

    calibration = {"target": 0.95, "of": "shown", "guarantee": "average", "photos": 500}
    rung = {"target": 0.8, "lam": 0, "threshold": 8_500}
    strict = Decision(rule="expected", lam=200_000, threshold=9_500)
    with people.database.transaction() as connection:
        store_decision(connection, people.model.model_id, strict, {**calibration, "ladder": [rung]})
        silent = {**calibration, "target": 0.99, "guarantee": None, "from": "verdicts"}
        store_decision(connection, people.model.model_id, strict, silent)
    mild, sure = client.get(f"{address}0.7").json(), client.get(f"{address}0.81").json()
    assert mild["calibration"] == {"decision_revision": 2, "target": 0.8, "guarantee": "average", "photos": 500}
    assert (sure["calibration"]["target"], sure["decision_revision"]) == (0.95, 2)
    assert names(mild) == ["pug"]
    assert names(sure) == []  # with lambda 20 the whole is worth most, 1 x (0 + 20), and too vague: abstained
    plain = client.get(f"/v1/photos/{photo}/tags").json()
    assert (names(plain), plain["calibration"], plain["decision_revision"]) == (["pug"], None, 1)
    above = client.get(f"{address}0.96")
    assert above.status_code == 422
    assert "promise 0.8, 0.95." in above.json()["detail"]  # and nothing of the one by verdicts


def test_an_explanation_adds_up_to_the_number_that_is_shown(people: Library, client: TestClient) -> None:
    photo = people.add("ada", "pug")
    shown = client.get(f"/v1/photos/{photo}/tags?include=ancestors").json()["tags"]
    assert len(shown) > 5
    for tag in shown:
        found = client.get(f"/v1/photos/{photo}/tags/{tag['wnid']}/explanation").json()
        assert found["mass"] == sum(part["mass"] for part in found["parts"]) + found["withheld"] + found["rest"]
        assert (found["probability"], found["headline"]) == (tag["probability"], tag["headline"])
        assert found["steps"]
    for wnid in ("n99999999", "dog"):
        missing = client.get(f"/v1/photos/{photo}/tags/{wnid}/explanation")
        assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    hide(people, "hide dog")
    hidden = client.get(f"/v1/photos/{photo}/tags/{PUG}/explanation")
    assert (hidden.status_code, hidden.json()["code"]) == (409, "category_hidden")
    assert "only as" in hidden.json()["detail"]


def test_what_has_not_changed_touches_no_table_of_tags(people: Library, client: TestClient, as_api: Database) -> None:
    photo = people.add("ada", "pug")
    addresses = [
        f"/v1/photos/{photo}{rest}"
        for rest in ("", "/tags", "/tags?include=ancestors", f"/tags/{DOG}/explanation", "/thumbnail?size=96")
    ]
    etags = {address: client.get(address).headers["etag"] for address in addresses}
    assert len(set(etags.values())) == len(addresses)
    with statements(as_api) as asked:
        for address, etag in etags.items():
            again = client.get(address, headers={"If-None-Match": etag})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert asked
    assert [line for line in asked if any(table in line for table in TAG_TABLES)] == []

    def unchanged() -> list[bool]:
        return [client.get(a, headers={"If-None-Match": etags[a]}).status_code == 304 for a in addresses]

    client.post(f"/v1/photos/{photo}/verdicts", json={"node": DOG, "verdict": "confirm"})
    assert unchanged() == [False] * 4 + [True]
    etags = {address: client.get(address).headers["etag"] for address in addresses}
    hide(people, "hide n02121808")
    assert unchanged() == [False] * 4 + [True]
    with people.database.transaction() as connection:
        connection.execute(text("UPDATE core.photo SET content_rev = 2"))
    assert unchanged() == [False] * 5


def test_thumbnails_have_a_size_and_the_older_name_of_it(people: Library, client: TestClient) -> None:
    photo = people.add("ada", "pug")
    small = client.get(f"/v1/photos/{photo}/thumbnail?size=96")
    assert (small.status_code, small.headers["content-type"]) == (200, "image/jpeg")
    older = client.get(f"/v1/photos/{photo}/thumbnail?side=96")
    assert (older.content, older.headers["etag"]) == (small.content, small.headers["etag"])
    assert client.get(f"/v1/photos/{photo}/thumbnail").headers["etag"] != small.headers["etag"]
    assert client.get(f"/v1/photos/{photo}/thumbnail?size=100").status_code == 400
    assert "private" in small.headers["cache-control"]
