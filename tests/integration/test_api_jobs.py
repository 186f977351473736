"""Jobs over HTTP, on a real ledger: started once, commanded, looked at, listened to."""

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from job_api_helpers import LOOK_SECONDS, ROBOT, Listener, Site, failing, served, site_of
from ledger_helpers import ref, wait_for
from sqlalchemy import event

from api.auth import Principal, Scope
from api.jobs import commands
from pipeline.errors import ServiceDown
from pipeline.records import Code

JPEG = b"\xff\xd8\xff\xe0 not looked at here"


@pytest.fixture
def site(ledger, ledger_settings, decoder):
    with ExitStack() as stack, site_of(ledger, ledger_settings, decoder, stack) as found:
        yield found


@pytest.fixture
def place(access, request):
    """A bucket with two photos."""
    name = "jobs-" + re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:40].strip("-")
    client = access.client()
    client.create_bucket(Bucket=name)
    for key in ("in/ann/1.jpg", "in/ben/2.jpg"):
        client.put_object(Bucket=name, Key=key, Body=JPEG)
    yield name
    client.delete_bucket(Bucket=name)  # this server takes what is in it along


def jobs_of(site: Site) -> int:
    return site.ledger.one("SELECT count(*) FROM core.job")


# ---- new jobs


def test_a_job_is_started_once_for_a_key_and_only_where_it_may_be(site, place):
    client = site.client(ROBOT, sources=(f"s3://{place}/in",), model="small")
    body = {"source": f"s3://{place}/in/", "priority": 5, "rules": {"exclude_users": ["zoe"]}}

    dry = client.post("/v1/jobs", json={**body, "dry_run": True})
    assert (dry.status_code, dry.json()["listed"], dry.json()["new"], dry.json()["due"]) == (200, 2, 2, 2)
    assert jobs_of(site) == 0

    first = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "night 7"})
    job = first.json()
    assert (first.status_code, job["state"], job["priority"], job["kind"]) == (202, "created", 5, "s3")
    assert (first.headers["location"], first.headers["retry-after"]) == (f"/v1/jobs/{job['job_id']}", "5")
    again = client.post("/v1/jobs", json=dict(reversed(body.items())), headers={"Idempotency-Key": "night 7"})
    assert (again.status_code, again.json()["job_id"]) == (202, job["job_id"])
    other = client.post("/v1/jobs", json={**body, "priority": 6}, headers={"Idempotency-Key": "night 7"})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    assert f"job {job['job_id']}" in other.json()["detail"]
    assert jobs_of(site) == 1
    assert client.post("/v1/jobs", json=body).json()["job_id"] != job["job_id"], "without a key, another job"

    assert client.get(first.headers["location"]).json()["source"] == f"s3://{place}/in/"
    refusals = {
        f"s3://{place}/": (403, "place_not_allowed"),
        "/tmp": (403, "place_not_allowed"),
        f"s3://{place}/in/nobody/": (422, "place_unusable"),
        "ledger:job:999": (400, "invalid_request"),
    }
    for source, expected in refusals.items():
        answer = client.post("/v1/jobs", json={"source": source})
        assert (answer.status_code, answer.json()["code"]) == expected, source
    unknown = client.post("/v1/jobs", json={**body, "model": "smal"})
    assert (unknown.status_code, "did you mean small" in unknown.json()["detail"]) == (400, True)
    misspelt = client.post("/v1/jobs", json={**body, "sauce": 1})
    assert (misspelt.status_code, misspelt.json()["errors"][0]["pointer"]) == (400, "body.sauce")
    assert jobs_of(site) == 2

    nowhere = site.client(ROBOT, model="small").post("/v1/jobs", json=body)
    assert (nowhere.status_code, "PICTOGRAPH_SOURCES" in nowhere.json()["detail"]) == (403, True)


def test_a_place_that_takes_too_long_is_not_forecast_here(site, place, monkeypatch):
    client = site.client(ROBOT, sources=(f"s3://{place}",), model="small")
    monkeypatch.setattr(commands, "FORECAST_SECONDS", -1.0)
    for source in (f"s3://{place}/in/", "ledger:photos"):
        answer = client.post("/v1/jobs", json={"source": source, "dry_run": True})
        assert (answer.status_code, answer.json()["code"]) == (422, "too_large_to_forecast")


def test_the_same_key_at_the_same_moment_is_one_job(site, place):
    client = site.client(ROBOT, sources=(f"s3://{place}",), model="small")
    body = {"source": f"s3://{place}/in/"}
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(client.post, "/v1/jobs", json=body, headers={"Idempotency-Key": "k"}) for _ in range(6)]
        answers = [each.result() for each in asked]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert jobs_of(site) == 1


def test_an_open_server_of_this_machine_takes_folders(site, tmp_path):
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "1.jpg").write_bytes(JPEG)
    client = site.client(model="small")
    answer = client.post("/v1/jobs", json={"source": str(tmp_path), "outputs": [{"target": f"{tmp_path}/out.csv"}]})
    assert (answer.status_code, answer.json()["kind"]) == (202, "folder")
    found = client.get(answer.headers["location"]).json()
    assert [(each["kind"], each["state"], each["format"]) for each in found["deliveries"]] == [
        ("results", "waiting", "csv")
    ]


# ---- orders


def test_orders_and_what_a_state_does_not_allow(site):
    client = site.client(ROBOT)
    job_id = site.ledger.list([ref("ann/1.jpg"), ref("ann/2.jpg"), ref("ann/3.jpg")])
    at = f"/v1/jobs/{job_id}"

    paused = client.post(f"{at}:pause", json={"reason": "the store moves", "until": "2999-01-01T00:00:00Z"}).json()
    assert (paused["state"], paused["changed"]) == ("paused", True)
    assert (paused["pause"]["paused_by"], paused["pause"]["pause_reason"]) == ("night robot", "the store moves")
    assert paused["pause"]["pause_until"].startswith("2999-01-01")
    assert client.post(f"{at}:pause").json()["changed"] is False
    why = client.get(f"{at}/why").json()
    assert (why["code"], why["moves"]) == ("paused", False)
    assert "night robot paused it" in why["sentence"]
    resumed = client.post(f"{at}:resume").json()
    assert (resumed["state"], resumed["changed"], resumed["pause"]) == ("running", True, None)
    past = client.post(f"{at}:pause", json={"until": "1999-01-01T00:00:00Z"})
    assert (past.status_code, past.json()["errors"][0]["pointer"]) == (400, "body.until")
    early = client.post(f"{at}:retry_failed")
    assert (early.status_code, early.json()["code"]) == (409, "conflict")

    failing(site.ledger, job_id, {"2.jpg": Code.MODEL_ERROR})
    assert client.get(at).json()["state"] == "succeeded_with_errors"
    for order in ("pause", "resume", "cancel"):
        late = client.post(f"{at}:{order}")
        assert (late.status_code, late.json()["code"]) == (409, "conflict"), order
        assert "has ended" in late.json()["detail"]
    retried = client.post(f"{at}:retry_failed", headers={"Idempotency-Key": "again"})
    new = retried.json()
    assert (retried.status_code, new["retry_of"], new["kind"]) == (202, job_id, "ledger")
    assert retried.headers["location"] == f"/v1/jobs/{new['job_id']}"
    same = client.post(f"{at}:retry_failed", headers={"Idempotency-Key": "again"})
    assert same.json()["job_id"] == new["job_id"]

    cancelled = client.post(f"/v1/jobs/{new['job_id']}:cancel").json()
    assert (cancelled["state"], cancelled["cancelled_by"], cancelled["changed"]) == ("cancelled", "night robot", True)
    for order in ("pause", "resume", "cancel", "retry_failed"):
        assert client.post(f"/v1/jobs/999:{order}").status_code == 404
    assert client.post(f"{at}:explode").status_code in (404, 405)


# ---- lists


def test_jobs_and_their_photos_in_pages(site):
    client = site.client(ROBOT)
    photos = [ref(f"ann/{n}.jpg") for n in range(7)] + [ref("ben/x.png", user="ben")]
    job_id = site.ledger.list(photos, shard_photos=4)
    failing(site.ledger, job_id, {"1.jpg": Code.CORRUPT, "3.jpg": Code.CORRUPT, "x.png": Code.UNSUPPORTED})
    others = [site.ledger.submit() for _ in range(2)]

    assert [job["job_id"] for job in client.get("/v1/jobs").json()["jobs"]] == [*others[::-1], job_id]
    assert [job["job_id"] for job in client.get("/v1/jobs?state=ended").json()["jobs"]] == [job_id]
    assert client.get("/v1/jobs?state=failed").json() == {"jobs": [], "next_page_token": None}
    first = client.get("/v1/jobs?page_size=2")
    rest = client.get("/v1/jobs", params={"page_token": first.json()["next_page_token"], "page_size": 2})
    assert [job["job_id"] for job in rest.json()["jobs"]] == [job_id]
    assert rest.json()["next_page_token"] is None
    assert first.links["next"]["url"].startswith("/v1/jobs?")
    assert client.get("/v1/jobs", params={"page_token": first.json()["next_page_token"], "state": "open"}).json()[
        "code"
    ] == ("invalid_page_token")
    for wrong in ("page_size=501", "state=some", "limit=3", "page_token=x"):
        assert client.get(f"/v1/jobs?{wrong}").status_code == 400, wrong

    found, address = [], f"/v1/jobs/{job_id}/items?page_size=3"
    while address:
        answer = client.get(address)
        found += answer.json()["items"]
        address = answer.links.get("next", {}).get("url")
    assert [item["photo_id"] for item in found] == sorted(item["photo_id"] for item in found)
    assert {item["key"] for item in found} == {f"s3://photos/{photo.key}" for photo in photos}
    corrupt = client.get(f"/v1/jobs/{job_id}/items?state=failed&code=corrupt").json()["items"]
    assert [item["key"] for item in corrupt] == ["s3://photos/ann/1.jpg", "s3://photos/ann/3.jpg"]
    assert {(i["state"], i["code"], i["message"], i["attempts"], i["user"]) for i in corrupt} == {
        ("failed", "corrupt", "corrupt & <b>cut off</b>", 1, "ann")
    }
    assert client.get(f"/v1/jobs/{job_id}/items?state=pending").json() == {"items": [], "next_page_token": None}
    assert client.get("/v1/jobs/999/items").status_code == 404
    assert client.get("/v1/jobs/999/why").status_code == 404
    assert client.get(f"/v1/jobs/{job_id}/why").json()["code"] == "ended"
    shown = client.get(f"/v1/jobs/{job_id}").json()
    assert (shown["counts"], shown["progress"]["done"], shown["progress"]["share"]) == (
        {"succeeded": 5, "failed": 3},
        8,
        1.0,
    )
    assert shown["reasons"]["failed"] == {"corrupt": 2, "unsupported": 1}
    nobody = client.get(f"/v1/jobs/{site.ledger.submit()}/why").json()
    assert (nobody["code"], nobody["moves"]) == ("nobody", False)

    site.ledger.execute("UPDATE core.app_user SET deleted_at = now() WHERE name = 'ben'")
    assert "ben" not in client.get(f"/v1/jobs/{job_id}/items").text


# ---- as it changes


def test_a_job_is_told_to_all_who_listen_by_one_who_looks(site):
    job_id, asked = site.ledger.list([ref("ann/1.jpg"), ref("ann/2.jpg")]), []

    @event.listens_for(site.database.engine, "before_cursor_execute")
    def count(_connection, _cursor, statement, *_):
        if "FROM core.job j" in statement:
            asked.append(statement)

    with served(site) as server:
        at = f"{server.url}/v1/jobs/{job_id}"
        listeners = [Listener(f"{at}/events", {"Accept-Encoding": "gzip"}) for _ in range(20)]
        for each in listeners:
            each.heard("running")
        assert {(each.status, each.kind.partition(";")[0]) for each in listeners} == {(200, "text/event-stream")}
        late = Listener(f"{at}/events", {"Last-Event-ID": "no such, event; 7"})
        late.heard("running")
        assert server.watching.streams == 21

        before, since = len(asked), time.monotonic()
        wait_for(lambda: len(asked) >= before + 10)
        assert time.monotonic() - since + LOOK_SECONDS >= 10 * LOOK_SECONDS, "21 listeners, and one who looks"

        assert httpx.post(f"{at}:pause", headers={"Content-Type": "application/json"}).status_code == 200
        for each in (*listeners, late):
            each.heard("paused")
        httpx.post(f"{at}:resume", headers={"Content-Type": "application/json"})
        failing(site.ledger, job_id, {"2.jpg": Code.CORRUPT})
        for each in (*listeners, late):
            each.heard("succeeded_with_errors")
            assert each.ended.wait(60), "a stream ends with its job"
            assert each.events[-1] == ("end", {})
            assert each.events[-2][1]["counts"] == {"succeeded": 1, "failed": 1}
        wait_for(lambda: server.watching.streams == 0)
        wait_for(lambda: not server.watching._watched)

        afterwards = Listener(f"{at}/events")
        assert afterwards.ended.wait(60)
        assert [name for name, _ in afterwards.events] == ["job", "end"]
        assert httpx.get(f"{server.url}/v1/jobs/999/events").status_code == 404


def test_streams_are_bounded_and_a_stop_ends_them(site):
    job_id = site.ledger.list([ref("ann/1.jpg")])
    with served(site, most_streams=2) as server:
        at = f"{server.url}/v1/jobs/{job_id}/events"
        listeners = [Listener(at) for _ in range(2)]
        for each in listeners:
            each.heard("running")
        refused = httpx.get(at)
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "busy", "10")
        with httpx.stream("GET", f"{server.url}/livez"):
            pass
        server.stop()  # which would wait for twice our patience, did the streams not end
        assert all(each.ended.wait(60) for each in listeners)
        assert "end" not in [name for each in listeners for name, _ in each.events], "the job has not ended"


def test_who_hangs_up_is_forgotten_and_an_outage_is_lived_through(site, monkeypatch):
    job_id = site.ledger.list([ref("ann/1.jpg")])
    with served(site) as server:
        at = f"{server.url}/v1/jobs/{job_id}/events"
        with httpx.stream("GET", at) as answer:
            lines = answer.iter_lines()  # held: where nobody holds it, its end closes the connection
            next(lines)
            wait_for(lambda: server.watching.streams == 1)
        wait_for(lambda: server.watching.streams == 0)
        assert not server.watching._watched, "nobody looks for nobody"

        listener = Listener(at)
        listener.heard("running")
        away, real = threading.Event(), site.database.transaction

        def refuse():
            away.set()
            raise ServiceDown("Postgres does not answer.")

        monkeypatch.setattr(site.database, "transaction", refuse)
        assert away.wait(60)
        monkeypatch.setattr(site.database, "transaction", real)
        failing(site.ledger, job_id, {})
        listener.heard("succeeded")


# ---- pages


def test_pages_say_what_runs_what_failed_and_take_orders(site):
    client = site.client()
    odd = "s3://photos/<i>ann</i>/"
    running = site.ledger.submit(source=odd)
    job_id = site.ledger.list([ref(f"ann/{n}<b>.jpg") for n in range(9)], notify=("https://example.org/x",))
    failing(site.ledger, job_id, {f"{n}<b>.jpg": Code.CORRUPT for n in range(7)} | {"7<b>.jpg": Code.MODEL_ERROR})

    listed = client.get("/jobs").text
    assert "s3://photos/&lt;i&gt;ann&lt;/i&gt;/" in listed
    assert [int(number) for number in re.findall(r'data-job="(\d+)"', listed)] == [running, job_id]
    assert "9 of" not in listed
    assert '<span data-field="done">9</span> of' in listed

    shown = client.get(f"/jobs/{job_id}").text
    assert shown.count('<span class="no-picture"') == 6, "the first few of each reason"
    assert "corrupt &amp; &lt;b&gt;cut off&lt;/b&gt;" in shown
    assert "<b>" not in shown.replace("&lt;b&gt;", "")
    assert shown.count("/thumbnail?size=96") == 1, "what the model stumbled over can be shown"
    assert f"/jobs/{job_id}/photos?state=failed&amp;code=corrupt" in shown
    assert "notice to https://example.org/x" in shown
    assert "data-events" not in shown
    photos = client.get(f"/jobs/{job_id}/photos?state=failed&code=corrupt").text
    assert photos.count('<span class="no-picture"') == 7
    assert client.get("/jobs/999", headers={"Accept": "text/html"}).status_code == 404

    assert f'data-events="/v1/jobs/{running}/events"' in client.get(f"/jobs/{running}").text
    answer = client.post(
        f"/jobs/{running}/pause", data={"reason": "<u>tea</u>", "rest": "3600"}, follow_redirects=False
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{running}")
    paused = client.get(f"/jobs/{running}").text
    assert "&lt;u&gt;tea&lt;/u&gt;" in paused
    assert f'action="/jobs/{running}/resume"' in paused
    client.post(f"/jobs/{running}/resume", data={})
    asks = client.get(f"/jobs/{running}/cancel").text
    assert f'<form class="actions" method="post" action="/jobs/{running}/cancel">' in asks
    assert site.ledger.job(running).state.name == "CREATED"
    assert "cancelled" in client.post(f"/jobs/{running}/cancel", data={}).text
    again = client.post(f"/jobs/{running}/cancel", data={}, headers={"Accept": "text/html"})
    assert (again.status_code, "has ended" in again.text) == (409, True)
    new = client.post(f"/jobs/{job_id}/retry", data={"everything": "true"})
    assert f"job {job_id}</a>" in new.text
    assert site.ledger.one("SELECT scope FROM core.job ORDER BY job_id DESC LIMIT 1") == "all"
    assert client.post(f"/jobs/{job_id}/retry", data={"every": "thing"}).status_code == 400


def test_who_may_only_look_is_offered_no_orders(site):
    looking = Principal(name="looker", user=None, scopes=frozenset({Scope.JOB_READ}))
    client, job_id = site.client(looking), site.ledger.submit()
    assert "<form method" not in client.get(f"/jobs/{job_id}").text
