"""What people say of photos over HTTP: it holds, stays apart from what models say, and obeys the policy; the queue."""

import random
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

from api_helpers import ClientAs, Library
from fastapi.testclient import TestClient
from ledger_helpers import Ledger, ref
from sqlalchemy import text
from test_api_photos import ANIMAL, CANINE, DOG, PUG, VEHICLE, hide, names

from pipeline.ledger.requests import Scope
from pipeline.store import photos as store
from pipeline.store.session import Database
from pipeline.verdicts import Kind, Word, add, all_said

BEAGLE = "n02088364"
TOTALS = (
    "SELECT model_id, user_id, node, photos, mass FROM core.user_category ORDER BY 1, 2, 3",
    "SELECT model_id, node, slot, photos, mass FROM core.category_total ORDER BY 1, 2, 3",
    "SELECT model_id, node, slot, users, photos, mass FROM core.shared_total ORDER BY 1, 2, 3",
    "SELECT * FROM core.photo_result ORDER BY photo_id",
)


def said(client: TestClient, photo: int, node: str, verdict: str) -> dict[str, object]:
    answer = client.post(f"/v1/photos/{photo}/verdicts", json={"node": node, "verdict": verdict})
    assert answer.status_code == 201, answer.text
    found: dict[str, object] = answer.json()
    return found


def of_photo(client: TestClient, photo: int) -> list[tuple[str, str]]:
    found = client.get(f"/v1/photos/{photo}/verdicts").json()["verdicts"]
    return [(each["wnid"], each["verdict"]) for each in found]


def standing(client: TestClient, photo: int) -> dict[str, tuple[str | None, str]]:
    found = client.get(f"/v1/photos/{photo}/tags?include=ancestors").json()["tags"]
    return {tag["wnid"]: (tag["verdict"], tag["source"]) for tag in found}


def rows(database: Database, query: str) -> list[tuple[object, ...]]:
    with database.transaction() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_the_newest_word_holds_and_says_what_it_replaced(people: Library, client: TestClient) -> None:
    photo = people.add("ada", "pug")
    first = said(client, photo, PUG, "confirm")
    assert (first["verdict"]["verdict"], first["verdict"]["given_by"]) == ("confirm", "open")  # type: ignore[index]
    assert standing(client, photo)[CANINE] == ("confirmed", "model")
    said(client, photo, ANIMAL, "confirm")
    answer = client.post(f"/v1/photos/{photo}/verdicts", json={"node": DOG, "verdict": "reject"})
    assert answer.headers["location"] == f"/v1/photos/{photo}/verdicts/{DOG}"
    assert [each["wnid"] for each in answer.json()["replaced"]] == [PUG]
    assert of_photo(client, photo) == [(ANIMAL, "confirm"), (DOG, "reject")]
    found = standing(client, photo)
    assert (found[PUG], found[DOG], found[CANINE], found[ANIMAL]) == (
        ("rejected", "model"),
        ("rejected", "model"),
        (None, "model"),
        ("confirmed", "model"),
    )  # what lies above a rejected tag stays
    narrowest = client.get(f"/v1/photos/{photo}/tags").json()
    assert names(narrowest) == ["pug", "domestic animal", "canine"]
    shown = client.get(f"/v1/photos/{photo}").json()
    assert [each["wnid"] for each in shown["verdicts"]] == [ANIMAL, DOG]
    assert shown["headline"]["verdict"] == "rejected"

    assert client.delete(f"/v1/photos/{photo}/verdicts/{DOG}").status_code == 204
    assert of_photo(client, photo) == [(ANIMAL, "confirm")]
    for again in (client.delete(f"/v1/photos/{photo}/verdicts/{DOG}"), client.delete(f"/v1/photos/9/verdicts/{DOG}")):
        assert (again.status_code, again.json()["code"]) == (404, "not_found")


def test_people_may_say_what_no_model_did(people: Library, client: TestClient) -> None:
    photo = people.add("ada", "pug", certain=0.3)
    some_dog = said(client, photo, DOG, "generalise")
    assert some_dog["verdict"]["headline_wnid"] is None  # type: ignore[index]
    (tag,) = client.get(f"/v1/photos/{photo}/tags").json()["tags"]
    assert (tag["name"], tag["source"], tag["verdict"], tag["headline"]) == ("dog", "person", "confirmed", False)
    assert tag["probability"] == 0.3819  # what the model gave it, which was not enough
    assert names(client.get(f"/v1/photos/{photo}/tags?min_probability=0.99").json()) == ["dog"]  # no probability of it
    assert standing(client, photo)[CANINE] == ("confirmed", "person")
    said(client, photo, VEHICLE, "confirm")
    vehicle = next(t for t in client.get(f"/v1/photos/{photo}/tags").json()["tags"] if t["wnid"] == VEHICLE)
    assert (vehicle["source"], vehicle["verdict"]) == ("person", "confirmed")

    sure = people.add("ada", "pug", day=2)
    generalised = said(client, sure, DOG, "generalise")
    assert generalised["verdict"]["headline_wnid"] == PUG  # type: ignore[index]
    found = standing(client, sure)
    assert (found[PUG][0], found[DOG][0]) == ("rejected", "confirmed")


def test_verdicts_touch_neither_results_nor_totals_and_outlive_tagging_again(
    people: Library, client: TestClient
) -> None:
    photo = people.add("ada", "pug")
    people.consent("ada")
    before = [rows(people.database, query) for query in TOTALS]
    for node, verdict in [(PUG, "reject"), (DOG, "confirm"), (VEHICLE, "reject")]:
        said(client, photo, node, verdict)
    assert [rows(people.database, query) for query in TOTALS] == before
    held = of_photo(client, photo)
    assert len(held) == 3
    assert rows(people.database, "SELECT wnid, verdict FROM tags.verdict ORDER BY given_at") == held
    incoherent = "SELECT * FROM tags.incoherence"
    assert rows(people.database, incoherent) == []
    with people.database.transaction() as connection:  # tagged again, by another decision
        connection.execute(
            text("UPDATE core.photo_result SET decision_rev = 1, tags = '{}', headline = NULL, outcome = 2")
        )
        connection.execute(text("UPDATE core.user_revision SET revision = revision + 1"))
    assert of_photo(client, photo) == held
    assert [t["wnid"] for t in client.get(f"/v1/photos/{photo}/tags").json()["tags"]] == [DOG]
    with people.database.transaction() as connection:  # other bytes at its place: nothing was said of them
        connection.execute(text("UPDATE core.photo SET content_rev = 2"))
    assert of_photo(client, photo) == []
    assert rows(people.database, "SELECT * FROM tags.verdict") == []
    said(client, photo, ANIMAL, "confirm")
    assert rows(people.database, "SELECT content_rev FROM core.verdict") == [(2,)]  # and what was said before is gone


def test_a_merge_of_other_tags_keeps_verdicts(two_users: int, ledger: Ledger, ingest: Ledger, worker: Ledger) -> None:
    held = "SELECT photo_id, node, verdict, content_rev, given_at FROM core.verdict ORDER BY photo_id"
    before, tags = ledger.all(held), ledger.all("SELECT tags FROM core.photo_result ORDER BY photo_id")
    assert before
    photos = [ref(f"ann/{n}.jpg") for n in range(2)] + [ref(f"ben/{n}.jpg", user="ben") for n in range(3)]
    for lease in worker.claim_all(ingest.list(photos, scope=Scope.ALL)):
        worker.merge([worker.tagged(task, "cat") for task in worker.tasks(lease)], [lease], revision=2)
    assert ledger.all("SELECT tags FROM core.photo_result ORDER BY photo_id") != tags
    assert ledger.all(held) == before


def test_what_is_stored_is_what_the_rules_say_after_any_words(people: Library, client: TestClient) -> None:
    photo, taxonomy = people.add("ada", "pug"), people.taxonomy
    words: tuple[Word, ...] = ()
    chance = random.Random(7)
    family = [PUG, BEAGLE, DOG, CANINE, ANIMAL, VEHICLE, "n01317541", "n02121808", "n02958343"]
    headline = taxonomy.node(PUG)
    for _ in range(20):
        wnid, kind = chance.choice(family), chance.choice(get_args(Kind))
        words = add(
            words, Word(node=int(taxonomy.shown_as[taxonomy.node(wnid)]), kind=kind, headline=headline), taxonomy
        )
        said(client, photo, wnid, kind)
    assert of_photo(client, photo) == [(taxonomy.synsets[word.node].wnid, word.kind) for word in words]
    expected = all_said(words, taxonomy)
    for wnid, (verdict, _) in standing(client, photo).items():
        assert verdict == expected.of(taxonomy.node(wnid))


def test_words_said_at_once_do_not_contradict_each_other_afterwards(people: Library, client: TestClient) -> None:
    photo = people.add("ada", "pug")
    words = [(PUG, "confirm"), (DOG, "reject"), (ANIMAL, "confirm"), (CANINE, "reject"), (BEAGLE, "confirm")] * 4
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda word: said(client, photo, *word), words))
    taxonomy = people.taxonomy
    held = [Word(node=taxonomy.node(wnid), kind=kind, headline=None) for wnid, kind in of_photo(client, photo)]  # type: ignore[arg-type]
    found = all_said(held, taxonomy)
    assert held
    assert found.yes.isdisjoint(found.no)


def test_a_hidden_category_is_neither_named_nor_shown(people: Library, client: TestClient) -> None:
    photo = people.add("ada", "pug")
    said(client, photo, PUG, "confirm")
    said(client, photo, BEAGLE, "reject")
    with people.database.transaction() as connection:
        pug_node = connection.execute(
            text("SELECT node FROM core.category WHERE wnid = :w AND NOT area_only"), {"w": PUG}
        )
        node = pug_node.scalar_one()
    hide(people, f"coarsen {DOG} to {ANIMAL}")
    for wnid in (PUG, DOG):
        refused = client.post(f"/v1/photos/{photo}/verdicts", json={"node": wnid, "verdict": "confirm"})
        assert (refused.status_code, refused.json()["code"]) == (409, "category_hidden")
        assert "only as animal" in refused.json()["detail"]
    assert of_photo(client, photo) == [(ANIMAL, "confirm")]
    tags = standing(client, photo)
    assert tags[ANIMAL] == ("confirmed", "model")
    assert {PUG, DOG, BEAGLE}.isdisjoint(tags)
    assert rows(people.database, "SELECT wnid, verdict, headline FROM tags.verdict") == [(ANIMAL, "confirm", None)]
    assert rows(people.database, f"SELECT verdict FROM core.verdict WHERE node = {node}") == [("confirm",)]
    assert client.delete(f"/v1/photos/{photo}/verdicts/{ANIMAL}").status_code == 204
    assert rows(people.database, "SELECT * FROM tags.verdict") == []


REFUSED: list[tuple[dict[str, str], int, str]] = [
    ({"node": DOG, "verdict": "perhaps"}, 400, "invalid_parameter"),
    ({"node": "dog", "verdict": "confirm"}, 400, "invalid_parameter"),
    ({"node": DOG}, 400, "invalid_parameter"),
    ({"node": DOG, "verdict": "confirm", "why": "it barks"}, 400, "invalid_parameter"),
    ({"node": "n99999999", "verdict": "confirm"}, 404, "not_found"),
]


def test_what_cannot_be_said(people: Library, client: TestClient) -> None:
    photo = people.add("ada", "pug")
    for body, status, code in REFUSED:
        refused = client.post(f"/v1/photos/{photo}/verdicts", json=body)
        assert (refused.status_code, refused.json()["code"]) == (status, code), body
    assert of_photo(client, photo) == []


def test_a_verdict_names_the_key_by_which_it_came(people: Library, client_as: ClientAs) -> None:
    photo = people.add("ada", "pug")
    assert said(client_as("ada"), photo, DOG, "confirm")["verdict"]["given_by"] == "key of ada"  # type: ignore[index]


# ---- the queue


def test_what_wants_a_look_is_shown_newest_first_until_somebody_looks(
    people: Library, client: TestClient, client_as: ClientAs
) -> None:
    sure, faint, unsure = (people.add("ada", "pug", certain=c, day=d) for c, d in [(0.95, 1), (0.3, 2), (0.85, 3)])
    of_ben = people.add("ben", "beagle", certain=0.3, day=4)
    found = client.get("/v1/review").json()
    queue = [(each["photo_id"], each["reason"], each["user"]) for each in found["photos"]]
    assert queue == [(of_ben, "abstained", "ben"), (unsure, "unsure", "ada"), (faint, "abstained", "ada")]
    assert found["next_page_token"] is None
    best = found["photos"][2]
    assert (best["headline"], best["guesses"][0]["name"], best["guesses"][0]["probability"]) == (None, "pug", 0.3)
    assert [each["name"] for each in best["ancestors"]][:2] == ["dog", "domestic animal"]
    assert found["photos"][1]["headline"]["name"] == "pug"
    only = client.get("/v1/review?reason=unsure").json()["photos"]
    assert [each["photo_id"] for each in only] == [unsure]
    assert [each["photo_id"] for each in client_as("ben").get("/v1/review").json()["photos"]] == [of_ben]

    paged, address = [], "/v1/review?page_size=1"
    while address:
        answer = client.get(address)
        paged += [each["photo_id"] for each in answer.json()["photos"]]
        token = answer.json()["next_page_token"]
        assert ("link" in answer.headers) == (token is not None)
        address = "" if token is None else answer.headers["link"].split(">")[0].removeprefix("<")
    assert paged == [of_ben, unsure, faint]
    for query in ("?page_size=501", "?reason=bored", "?page_token=x", "?after=1"):
        assert client.get(f"/v1/review{query}").status_code == 400

    said(client, unsure, PUG, "confirm")
    assert [each["photo_id"] for each in client.get("/v1/review").json()["photos"]] == [of_ben, faint]
    hide(people, f"coarsen {DOG} to {ANIMAL}")
    hidden = client.get("/v1/review").json()["photos"]
    assert {tag["wnid"] for each in hidden for tag in (*each["guesses"], *each["ancestors"])}.isdisjoint(
        {PUG, BEAGLE, DOG}
    )
    assert sure not in paged


def test_a_page_looks_through_so_many_photos_and_no_more(people: Library) -> None:
    faint = people.add("ada", "pug", certain=0.3, day=1)
    for day in range(2, 6):
        people.add("ada", "pug", certain=0.95, day=day)
    for user in (None, "ada"):
        after, pages, found = None, 0, []
        with people.database.transaction() as connection:
            while pages == 0 or after is not None:
                walk = store.doubtful(connection, people.model.model_id, user, ("abstained",), 10, after, walked=2)
                found += [each.photo_id for each in walk.found]
                pages, after = pages + 1, walk.after
        assert (found, pages) == ([faint], 3)
