"""The API over the network, as strangers meet it: by its own document, and by a client generated from that.

Schemathesis asks for each operation what the document allows and what it forbids, and holds every answer against the
document: its status, type, headers and shape; that what is forbidden is refused; that nothing works without a key;
that methods which are not there are answered with those that are. The same requests are made each time. Two things it
is not asked for: that all that the document allows is accepted, since periods, page tokens and places hold or not by
what a JSON schema cannot say; and events of jobs, which go on as long as the job does (test_api_jobs.py).

PICTOGRAPH_TEST_EXHAUSTIVE=1 makes it ask for pictures and tables too, at random, far more often, and in chains of
requests; that takes its time.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from api_site import ApiSite, api_site
from key_helpers import bearer

from pictograph.stack import Endpoints
from workers.decode.pool import DecodePool

PATIENCE_SECONDS = 300
EXHAUSTIVE = "PICTOGRAPH_TEST_EXHAUSTIVE" in os.environ
GENERATED = """
content_type_overrides:  # the generator knows texts and bytes
  image/jpeg: application/octet-stream
  image/png: application/octet-stream
  image/svg+xml: text/plain
post_hooks: []
"""
DOG = "n02084071"


@pytest.fixture(scope="module")
def site(endpoints: Endpoints, decoder: DecodePool) -> Iterator[ApiSite]:
    with api_site(endpoints, decoder) as made:
        yield made


@pytest.fixture(scope="module")
def document(site: ApiSite) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{site.url}/v1/openapi.json").json()
    return found


# ---- the document


def test_every_operation_works_as_its_example_says(site: ApiSite, document: dict[str, Any]) -> None:
    """Orders to a job that has ended are refused; all else is done."""
    known = {"base": "lite", "head": "heavy"}  # the models of this ledger
    orders = {"pause_job", "resume_job", "cancel_job"}
    operations = [
        (path, method, each)
        for method in ("get", "post", "delete")
        for path, item in document["paths"].items()
        for each in [item.get(method)]
        if each is not None
    ]
    with httpx.Client(base_url=site.url, headers=bearer(site.operator), timeout=60) as client:
        for path, method, each in operations:
            values = {p["name"]: known.get(p["name"], p.get("example")) for p in each.get("parameters", ())}
            given = {p["name"] for p in each.get("parameters", ()) if p["required"]} | {"name"}
            address = path.format_map({name: quote(str(value), safe="") for name, value in values.items()})
            query = {n: v for n, v in values.items() if n in given and f"{{{n}}}" not in path}
            body = example_body(document, each)
            answer = client.request(method, address, params=query, json=body)
            expected = {409} if each["operationId"] in orders else {200, 201, 202, 204}
            assert answer.status_code in expected, (each["operationId"], answer.text)


def example_body(document: dict[str, Any], operation: dict[str, Any]) -> object:
    """The first example of what an operation takes; None: it takes nothing, or need not be given it."""
    if not operation.get("requestBody", {}).get("required"):
        return None
    _, _, name = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")
    return document["components"]["schemas"][name]["examples"][0]


def test_all_answers_are_those_of_the_document(site: ApiSite, document: dict[str, Any], tmp_path: Path) -> None:
    for item in document["paths"].values():
        for operation in item.values():
            del operation["responses"]["default"]  # it would allow any status
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", f"--url={site.url}"]
    command += [f"--header=Authorization: Bearer {site.operator}", "--request-timeout=60", "--no-color"]
    command += ["--exclude-checks=positive_data_acceptance", "--exclude-operation-id=watch_job", "--warnings=off"]
    if EXHAUSTIVE:
        command += ["--max-examples=300", "--phases=examples,coverage,fuzzing,stateful", "--continue-on-failure"]
    else:
        command += ["--max-examples=8", "--phases=examples,coverage,fuzzing", "--generation-deterministic"]
        command += ["--exclude-operation-id-regex=_(svg|png|csv)$"]
    patience = 20 * PATIENCE_SECONDS if EXHAUSTIVE else PATIENCE_SECONDS
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=patience, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- a generated client


@pytest.fixture(scope="module")
def generated(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Imports a module of a client that was generated from the document without a warning."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "config.yaml").write_text(GENERATED)
    command = [str(Path(sys.executable).with_name("openapi-python-client")), "generate", "--path=openapi.json"]
    command += ["--meta=none", "--output-path=stranger", "--config=config.yaml", "--fail-on-warning"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    try:
        yield lambda name: importlib.import_module(f"stranger{name}")
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == "stranger"]:
            del sys.modules[name]


def test_a_generated_client_serves_a_stranger(site: ApiSite, generated: Callable[[str], Any]) -> None:
    models = generated(".models")

    def call(operation: str, /, *arguments: object, **named: object) -> Any:
        return generated(f".api.{operation}").sync(*arguments, client=client, **named)

    with generated("").AuthenticatedClient(base_url=site.url, token=site.operator) as client:
        users = call("users.list_users")
        assert [user.name for user in users.users] == ["ann", "ben", "cleo", "dan", "eve"]
        profile = call("users.get_profile", "ann", k=2, unit=models.GetProfileUnit.MOMENTS)
        assert sum(cell.mass for cell in profile.cells) == profile.mass == 10_000 * profile.photos
        assert call("users.get_profile_csv", "ann").startswith("kind,wnid,name,photos,mass,share")
        assert call("users.get_profile_png", "ann").payload.read(4) == b"\x89PNG"
        both = call("users.compare_users", "ann", "ben")
        assert (both.a.name, both.b.name, 0 < both.similarity < 1) == ("ann", "ben", True)

        first = call("users.list_user_photos", "ann", page_size=5)
        second = call("users.list_user_photos", "ann", page_size=5, page_token=first.next_page_token)
        photos = first.photos + second.photos
        assert (len({photo.photo_id for photo in photos}), second.next_page_token) == (8, None)
        pug = next(photo for photo in photos if photo.headline and photo.headline.name == "pug")
        tags = call("photos.get_photo_tags", pug.photo_id, include="ancestors", under=[DOG])
        assert [tag.name for tag in tags.tags][:2] == ["pug", "dog"]
        why = call("photos.explain_photo_tag", pug.photo_id, DOG)
        assert why.mass == sum(part.mass for part in why.parts) + why.withheld + why.rest

        (dog,) = call("categories.find_categories", name="dog").categories
        assert (dog.wnid, dog.photos) == (DOG, 9)
        there = call("categories.list_category_photos", DOG, sort=models.ListCategoryPhotosSort.NEWEST)
        assert (there.total, len(there.photos)) == (9, 9)

        said = models.VerdictIn(node=DOG, verdict=models.VerdictInVerdict.GENERALISE)
        given = call("verdicts.give_verdict", pug.photo_id, body=said)
        assert (given.verdict.name, given.verdict.given_by) == ("dog", "operator")
        assert [each.wnid for each in call("verdicts.list_verdicts", pug.photo_id).verdicts] == [DOG]

        wanted = models.JobIn(source="ledger:user:ann", scope=models.Scope.ALL, dry_run=True)
        assert call("jobs.create_job", body=wanted).due == 8
        wanted.dry_run = False
        job = call("jobs.create_job", body=wanted, idempotency_key="stranger-1")
        assert call("jobs.create_job", body=wanted, idempotency_key="stranger-1").job_id == job.job_id
        assert call("jobs.cancel_job", job.job_id).cancelled_by == "operator"

        problem = call("users.get_profile", "nobody")
        assert (problem.status, problem.code, problem.detail) == (404, "not_found", "There is no user 'nobody'.")
        problem = call("users.get_profile", "ann", k=99)
        assert [(part.pointer, part.detail) for part in problem.errors] == [("query.k", "it must be 12 or less")]
    with generated("").AuthenticatedClient(base_url=site.url, token="pk_unknown") as client:
        assert call("users.list_users").code == "wrong_key"
