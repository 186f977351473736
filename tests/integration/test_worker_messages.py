"""What a worker does with messages that are none of ours: real processes, real Valkey, anything that can be pushed.

Each is refused before it is unpacked, leaves nothing behind in the broker, and one line without its payload in the log.
"""

import base64
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import redis

from pipeline.ledger import jobs
from pipeline.ledger.publish import INGEST_QUEUE
from pipeline.ledger.requests import JobRequest
from pipeline.records import WorkState
from workers.app import create_app
from workers.door import taken_in
from workers.send import ANNOTATE, DELIVER, INGEST, ring

RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: ")
PATIENCE_SECONDS = 120  # an interpreter starts, maybe on a busy machine
CANARY = "payload-that-must-not-be-logged"
UNACKED = ("unacked", "unacked_index")


class Bomb:
    """Unpickling it runs a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def encoded(content):
    return base64.b64encode(content if isinstance(content, bytes) else json.dumps(content).encode()).decode()


def message(arguments=(1,), named=None, following=None, body=None, headers=None, delivery=None, **changes):
    """A message as kombu writes it."""
    name = str(uuid.uuid4())
    content = [list(arguments), named or {}, following or {}]
    delivered = {"exchange": "", "routing_key": INGEST_QUEUE} | (delivery or {})
    return {
        "body": encoded(content) if body is None else body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": INGEST, "id": name, "root_id": name} | (headers or {}),
        "properties": {
            "correlation_id": name,
            "delivery_mode": 2,
            "delivery_info": delivered,
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": name,
        },
    } | changes


def hostile(trap):
    """Name -> a message that must be refused; `trap` is a file that appears if one of them is run."""
    pickled = encoded(pickle.dumps([[Bomb(trap)], {}, {}]))
    yaml = encoded(f"!!python/object/apply:os.system ['touch {trap}']".encode())
    link = {"task": INGEST, "args": [1], "kwargs": {}, "options": {"queue": CANARY}}
    return {
        "pickle": message(body=pickled, **{"content-type": "application/x-python-serialize"}),
        "pickle that says JSON": message(body=pickled),
        "yaml": message(body=yaml, **{"content-type": "application/x-yaml"}),
        "a string": message([CANARY]),
        "a number as text": message(["1"]),
        "negative": message([-1]),
        "zero": message([0]),
        "huge": message([2**70]),
        "one too many": message([2**63]),
        "a float": message([1.0]),
        "not a number": message(body=encoded(b"[[NaN], {}, {}]")),
        "a bool": message([True]),
        "a list": message([[1]]),
        "null": message([None]),
        "no argument": message([]),
        "two arguments": message([1, 2]),
        "a named argument": message([1], {CANARY: 1}),
        "protocol 1": message(body=encoded({"task": INGEST, "args": [1], "kwargs": {}, "id": CANARY})),
        "unknown task": message(headers={"task": f"os.system.{CANARY}"}),
        "another worker's task": message(headers={"task": ANNOTATE}),
        "no task": message(headers={"task": None}),
        "10 MB": message(body="A" * 10_000_000),
        "10 MB in an argument": message(["A" * 10_000_000]),
        "compressed": message(headers={"compression": "application/x-gzip"}),
        "nested": message(body=encoded(b"[" * 700 + b"]" * 0)),
        "callback": message(following={"callbacks": [link]}),
        "chain": message(following={"chain": [link]}),
        "chord": message(following={"chord": link}),
        "headers are a list": message() | {"headers": [CANARY]},
        "no properties": {key: value for key, value in message().items() if key != "properties"},
        "only text": CANARY,
        "only a number": 7,
        "only null": None,
        "empty": {},
    }


NAMES = sorted(hostile(""))
NO_JSON = [b"\x80\x04garbage", b"", b"{", b"[" * 100_000, "ü".encode("latin-1"), CANARY.encode()]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_none_of_ours_is_refused_in_words_of_our_own(name, tmp_path):
    with pytest.raises(ValueError, match=r"^(its|it|a message) ") as caught:
        taken_in(hostile(tmp_path / "trap")[name], INGEST_QUEUE)
    assert CANARY not in str(caught.value)
    assert len(str(caught.value)) < 120
    assert not (tmp_path / "trap").exists()


ASKING = {
    "eta": message(headers={"eta": "2199-01-01T00:00:00+00:00"}),
    "countdown": message(headers={"eta": "2199-01-01T00:00:00", "expires": "2000-01-01T00:00:00"}),
    "a time limit": message(headers={"timelimit": [None, 0.001]}),
    "an exchange": message(delivery={"exchange": "celeryev", "routing_key": CANARY}),
    "an answer": message(headers={"reply_to": CANARY}),
    "a name to log": message(headers={"id": CANARY, "argsrepr": CANARY, "shadow": CANARY, "origin": CANARY}),
    "a tag": message() | {"properties": message()["properties"] | {"delivery_tag": "x" * 1_000_000}},
    "priority": message() | {"properties": message()["properties"] | {"priority": 9}},
}


def test_who_lists_delivers_as_well_and_who_annotates_does_neither():
    for task in (INGEST, DELIVER):
        assert taken_in(message(headers={"task": task}), INGEST_QUEUE)["headers"]["task"] == task
        with pytest.raises(ValueError, match="its task is not"):
            taken_in(message(headers={"task": task}), "annotate.small")
    with pytest.raises(ValueError, match="its task is not"):
        taken_in(message(headers={"task": ANNOTATE}), INGEST_QUEUE)


@pytest.mark.parametrize("name", sorted(ASKING))
def test_of_what_a_message_asks_for_only_the_id_is_taken_in(name):
    ours = taken_in(ASKING[name], INGEST_QUEUE)
    text = json.dumps(ours)
    assert json.loads(base64.b64decode(ours["body"]))[0] == [1]
    assert ours["properties"]["delivery_info"] == {"exchange": "", "routing_key": INGEST_QUEUE}
    assert not {"eta", "expires", "timelimit", "reply_to", "shadow", "argsrepr"} & set(ours["headers"])
    assert CANARY not in text
    assert len(text) < 1000


@pytest.fixture
def broker(endpoints):
    client = redis.Redis.from_url(endpoints.broker_admin_url)
    client.flushall()
    yield client
    client.flushall()
    client.close()


@pytest.fixture
def worker(ledger, ledger_settings, broker, tmp_path):
    """A real ingest worker; its log is `tmp_path / "log"`."""
    environment = {**os.environ, **ledger_settings.environment(), "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-P", "-m", "pictograph", "worker", "ingest"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd="/")
        yield process
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_SECONDS)
        finally:
            process.kill()


def wait_for(condition, log):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, log.read_text()[-5000:]
        time.sleep(0.1)
    return found


def test_a_worker_outlives_every_message_and_does_the_good_one_after_them(
    worker, ledger, ledger_settings, broker, tmp_path
):
    log, trap = tmp_path / "log", tmp_path / "trap"
    photos = tmp_path / "photos/ann"
    photos.mkdir(parents=True)
    (photos / "1.jpg").write_bytes(b"x")
    wait_for(lambda: ledger.all("SELECT 1 FROM core.worker WHERE queue = 'ingest'"), log)
    bad = [json.dumps(raw).encode() for raw in hostile(trap).values()] + NO_JSON
    for raw in bad:
        broker.lpush(INGEST_QUEUE, raw)
    for raw in ASKING.values():
        broker.lpush(INGEST_QUEUE, json.dumps(raw))
    request = JobRequest(kind="folder", source=str(photos.parent), user_rule="{user}/{photo}")
    job_id = ledger.database.run(lambda c: jobs.submit(c, request, ledger.registered.model_id))
    range_id = ledger.range_of(job_id)
    app = create_app(ledger_settings)
    ring(app, "ingest", INGEST_QUEUE, range_id)
    app.close()
    state = "SELECT state FROM core.list_range WHERE range_id = :id"
    wait_for(lambda: ledger.one(state, id=range_id) == WorkState.DONE, log)
    assert ledger.job(job_id).total == 1
    assert worker.poll() is None
    wait_for(lambda: not broker.exists(INGEST_QUEUE, *UNACKED), log)  # nothing piles up, nothing waits for its time
    said = log.read_text()
    assert said.count("was refused") == len(bad)
    assert CANARY not in said
    assert "Traceback" not in said
    others = [line for line in said.splitlines() if not RECORD.match(line)]
    assert all(line.endswith("calling self.run()") for line in others), others  # billiard's, before we are asked
    assert not trap.exists()
    left = {key.decode() for key in broker.keys("*")}
    assert all(key.startswith(("_kombu.binding", "pictograph:")) for key in left), left
