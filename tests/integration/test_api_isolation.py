"""Whoever is bound to one user learns nothing of another: what is answered is what a user who does not exist gets.

Ann asks for everything of Ben, at every address and by every parameter that can name him, before he exists and once he
has photos; nothing that she is told may change by it, byte for byte. A route that is not in the table fails the test:
add the addresses at which it can be asked for Ben, whose photo is {photo}, or for what may count or list him.
"""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from api_helpers import Library
from fastapi.testclient import TestClient
from key_helpers import bearer, closed_app, new_key
from sqlalchemy import text

from api import auth
from api.addresses import leaves
from api.auth import PUBLIC
from pipeline.ledger import jobs
from pipeline.ledger.requests import JobRequest
from pipeline.settings import Settings
from pipeline.store.session import Database
from workers.decode.pool import DecodePool

PUG, DOG, BOAT = "n02110958", "n02084071", "n02858304"
SPAN = "from=2026-01-01&to=2026-02-01"

#: By method and route, how it is asked for Ben; forms and JSON as a second part.
TABLE: dict[str, list[str | tuple[str, dict[str, object]]]] = {
    # Jobs and models: for nobody who is bound to a user.
    "GET /v1/jobs": ["/v1/jobs", "/v1/jobs?state=running"],
    "GET /v1/jobs/{job_id:word}": ["/v1/jobs/{job}", "/v1/jobs/99999"],
    "GET /v1/jobs/{job_id:word}/items": ["/v1/jobs/{job}/items?state=failed"],
    "GET /v1/jobs/{job_id:word}/why": ["/v1/jobs/{job}/why"],
    "GET /v1/jobs/{job_id:word}/events": ["/v1/jobs/{job}/events"],
    "POST /v1/jobs": [("/v1/jobs", {"source": "s3://photos/ben/"}), ("/v1/jobs", {"user": "ben"})],
    "POST /v1/jobs/{job_id:word}:retry_failed": [("/v1/jobs/{job}:retry_failed", {})],
    "POST /v1/jobs/{job_id:word}:pause": [("/v1/jobs/{job}:pause", {"reason": "mine"})],
    "POST /v1/jobs/{job_id:word}:resume": [("/v1/jobs/{job}:resume", {})],
    "POST /v1/jobs/{job_id:word}:cancel": [("/v1/jobs/{job}:cancel", {})],
    "GET /jobs": ["/jobs"],
    "GET /jobs/{job_id}": ["/jobs/{job}"],
    "GET /jobs/{job_id}/photos": ["/jobs/{job}/photos?state=failed"],
    "POST /jobs/{job_id}/pause": [("/jobs/{job}/pause", {"reason": "mine"})],
    "POST /jobs/{job_id}/resume": [("/jobs/{job}/resume", {})],
    "GET /jobs/{job_id}/cancel": ["/jobs/{job}/cancel"],
    "POST /jobs/{job_id}/cancel": [("/jobs/{job}/cancel", {})],
    "POST /jobs/{job_id}/retry": [("/jobs/{job}/retry", {})],
    "GET /v1/models": ["/v1/models"],
    "GET /v1/models/diff": ["/v1/models/diff?base=a&head=b"],
    # Photos.
    "GET /v1/photos/{photo_id}": ["/v1/photos/{photo}"],
    "GET /v1/photos/{photo_id}/tags": [
        "/v1/photos/{photo}/tags",
        f"/v1/photos/{{photo}}/tags?min_probability=0.5&under={DOG}&max_labels=2&include=ancestors,leaves",
    ],
    "GET /v1/photos/{photo_id}/tags/{node}/explanation": [
        f"/v1/photos/{{photo}}/tags/{PUG}/explanation",
        f"/v1/photos/{{photo}}/tags/{BOAT}/explanation",
    ],
    "GET /v1/photos/{photo_id}/thumbnail": ["/v1/photos/{photo}/thumbnail", "/v1/photos/{photo}/thumbnail?size=96"],
    "GET /v1/photos/{photo_id}/verdicts": ["/v1/photos/{photo}/verdicts"],
    "POST /v1/photos/{photo_id}/verdicts": [
        ("/v1/photos/{photo}/verdicts", {"node": PUG, "verdict": "reject"}),
        ("/v1/photos/{photo}/verdicts", {"node": "n00000000", "verdict": "reject"}),
    ],
    "DELETE /v1/photos/{photo_id}/verdicts/{node}": [f"/v1/photos/{{photo}}/verdicts/{PUG}"],
    "GET /v1/review": ["/v1/review", "/v1/review?page_size=500"],
    "GET /p/{photo_id}": ["/p/{photo}", f"/p/{{photo}}?why={PUG}"],
    "POST /p/{photo_id}": [("/p/{photo}", {"node": PUG, "verdict": "reject"})],
    "GET /review": ["/review"],
    "POST /review": [("/review", {"photo": "{photo}", "node": PUG, "verdict": "reject"})],
    # Users.
    "GET /v1/users": ["/v1/users", "/v1/users?after=ann", "/v1/users?after=ben", "/v1/users?limit=1"],
    **{
        f"GET /v1/users/{{user:anything}}/profile{suffix}": [
            f"/v1/users/ben/profile{suffix}",
            f"/v1/users/ben/profile{suffix}?k=2&depth=2&unit=moments&{SPAN}",
            f"/v1/users/ben/profile{suffix}?under={DOG}",
            f"/v1/users/ben/profile{suffix}?as_of=2030-01-01",
        ]
        for suffix in ("", ".svg", ".png", ".csv")
    },
    **{
        f"GET /v1/users/{{user:anything}}/profile/diff{suffix}": [f"/v1/users/ben/profile/diff{suffix}?{SPAN}"]
        for suffix in ("", ".svg", ".png", ".csv")
    },
    **{
        f"GET /v1/users/{{a:anything}}/compare/{{b:anything}}{suffix}": [
            f"/v1/users/ann/compare/ben{suffix}",
            f"/v1/users/ben/compare/ann{suffix}",
            f"/v1/users/ben/compare/ben{suffix}",
        ]
        for suffix in ("", ".svg", ".png", ".csv")
    },
    "GET /v1/users/{user:anything}/months": ["/v1/users/ben/months"],
    "GET /v1/users/{user:anything}/photos": ["/v1/users/ben/photos", f"/v1/users/ben/photos?under={PUG}&{SPAN}"],
    "POST /v1/users/{user:anything}:refresh": [("/v1/users/ben:refresh", {})],
    "GET /v1/users/{user:anything}:refresh": ["/v1/users/ben:refresh"],
    "GET /people": ["/people", "/people?after=ann", "/people?after=ben"],
    "GET /u/{user:anything}": ["/u/ben", f"/u/ben?under={DOG}", "/u/ben?unit=moments&from=2026-01&to=2026-02"],
    "GET /compare": ["/compare?a=ann&b=ben"],
    "GET /compare/{names:anything}": ["/compare/ann/ben", "/compare/ben/ann?k=4", "/compare/ben/ben"],
    # What everybody's photos are counted and listed in.
    "GET /": ["/", "/?q=pug", "/?q=ben"],
    "GET /v1/categories": ["/v1/categories?name=pug", "/v1/categories?prefix=pu", "/v1/categories?name=ben"],
    "GET /v1/categories/{node}": [f"/v1/categories/{PUG}", f"/v1/categories/{DOG}", f"/v1/categories/{BOAT}"],
    "GET /v1/categories/{node}/children": [f"/v1/categories/{DOG}/children", f"/v1/categories/{BOAT}/children"],
    "GET /v1/categories/{node}/photos": [
        f"/v1/categories/{node}/photos?sort={sort}"
        for node in (PUG, BOAT)
        for sort in ("probability", "newest", "diverse")
    ],
    "GET /v1/categories/{node}/users": [f"/v1/categories/{PUG}/users", f"/v1/categories/{BOAT}/users?limit=100"],
    "GET /c/{wnid}": [f"/c/{PUG}", f"/c/{DOG}?sort=newest", f"/c/{BOAT}"],
}
#: What says nothing of anybody, or is asked for without an end.
ENDLESS = frozenset({"GET /v1/jobs/{job_id:word}/events"})


@dataclass
class Asker:
    """Somebody who asks for everything in the table."""

    client: TestClient
    secret: str
    photo: int
    job: int

    def ask_everything(self) -> dict[str, tuple[int, dict[str, str], bytes]]:
        """All answers, by what was asked. What depends on when it was asked, or on others' work, is left out."""
        answers = {}
        for route, asked in TABLE.items():
            for each in asked:
                address, body = (each, None) if isinstance(each, str) else each
                for accept in ("application/json", "text/html"):
                    answer = self.ask(route.split()[0], address, body, accept)
                    headers = {n: v for n, v in answer.headers.items() if n not in ("etag", "content-length")}
                    answers[f"{route} {address} {body} {accept}"] = (answer.status_code, headers, answer.content)
        return answers

    def ask(
        self, method: str, address: str, body: dict[str, object] | None = None, accept: str = "application/json"
    ) -> httpx.Response:
        headers = {**bearer(self.secret), "Accept": accept, "X-Request-ID": "the-same"}
        spelt = {name: self._spelt(str(value)) for name, value in (body or {}).items()}
        sent = {} if body is None else {"json": spelt} if address.startswith("/v1/") else {"data": spelt or {"x": ""}}
        return self.client.request(method, self._spelt(address), headers=headers, **sent)  # type: ignore[arg-type]

    def _spelt(self, words: str) -> str:
        return words.replace("{photo}", str(self.photo)).replace("{job}", str(self.job))


@pytest.fixture
def next_photo(people: Library) -> int:
    """The number that the next photo but two will have; those two are Ann's and Cleo's, who lets others see hers."""
    people.add("ann", "pug")
    photo = people.add("cleo", "pug") + 1
    people.consent("cleo")
    return photo


def test_ann_learns_nothing_of_ben(
    people: Library, next_photo: int, settings: Settings, as_api: Database, decoder: DecodePool
) -> None:
    request = JobRequest(kind="s3", source="s3://photos/ben/", user_rule="{user}/{photo}")
    job = people.database.run(lambda c: jobs.submit(c, request, people.model.model_id))
    all_scopes = [scope.value for scope in auth.Scope]
    bound = new_key(people.database, *all_scopes, user="ann")
    everybody = new_key(people.database, "operator")
    with closed_app(settings, as_api, decoder, api_requests_per_minute=0, fewest_users=1) as client:
        ann = Asker(client, bound, next_photo, job)
        before = ann.ask_everything()
        assert people.add("ben", "pug", day=3) == next_photo
        people.add("ben", "canoe", day=4)
        people.add("ben", "pug", day=-20)
        said = "INSERT INTO core.verdict VALUES (:photo, :node, 'confirm', 1, :model, 1, NULL, 'ben')"
        values = {"photo": next_photo, "node": 1, "model": people.model.model_id}
        people.database.run(lambda c: c.execute(text(said), values))
        after = ann.ask_everything()
        differing = {asked: (before[asked], after[asked]) for asked in before if before[asked] != after[asked]}
        assert list(differing) == [], differing
        assert all(status < 500 for status, _, _ in after.values())
        for asked, (status, _, _) in after.items():
            name = asked.split()[2].partition("?")[0]
            if "ben" in name or "{photo}" in name:
                assert status in (403, 404), asked
        _assert_that_there_was_something_to_learn(Asker(client, everybody, next_photo, job), after)


def _assert_that_there_was_something_to_learn(
    everybody: Asker, heard: dict[str, tuple[int, dict[str, str], bytes]]
) -> None:
    """Who may see everybody is told more at the same addresses, so what Ann was told is no accident."""
    for route, asked in TABLE.items():
        if not route.startswith("GET ") or route in ENDLESS:
            continue
        for address in asked:
            assert isinstance(address, str)
            if "ben" in urlsplit(address).path or "{photo}" in address:
                answer = everybody.ask("GET", address)
                assert answer.status_code == 200, (address, answer.text)
                assert heard[f"{route} {address} None application/json"][0] == 404


def test_the_table_has_every_route(settings: Settings, client: TestClient) -> None:
    routes = {
        f"{method} {route.path}"
        for route in leaves(client.app.router.routes)  # type: ignore[attr-defined]
        if route.path not in PUBLIC
        for method in route.methods
    }
    assert routes - TABLE.keys() == set(), "add how they are asked for Ben"
    assert TABLE.keys() - routes == set(), "they are no routes any more"
    for route, asked in TABLE.items():
        pattern = re.sub(r"\\{[^}]*\\}", ".+", re.escape(route.split()[1]))
        for each in asked:
            address = each if isinstance(each, str) else each[0]
            assert re.fullmatch(pattern, urlsplit(address).path), (route, address)
