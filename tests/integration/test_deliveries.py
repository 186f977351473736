"""Deliveries: published when the job has ended, brought once, tried again with the same id, given up in the end."""

import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ledger_helpers import ref, wait_for
from pydantic import SecretStr

from pipeline import sinks
from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.ledger import delivery, jobs, roster
from pipeline.ledger.delivery import DELIVERIES, MOST_ATTEMPTS
from pipeline.ledger.publish import INGEST_QUEUE
from pipeline.ledger.requests import Output
from pipeline.ledger.targets import target_of
from pipeline.records import JobState, WorkState
from pipeline.sources.s3 import create_bucket
from workers import deliver, webhook
from workers.deliver import deliver_one
from workers.heart import Heart

REPOSITORY = Path(__file__).parents[2]
SECRET = "whsec_" + base64.b64encode(b"a key of thirty-two bytes, or so").decode()


class Receiver(ThreadingHTTPServer):
    """Takes notices after refusing the first few, and remembers all."""

    def __init__(self, refuse=0, status=500):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuse, self.status = refuse, status
        self.met = []
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/ended"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.met.append((self.path, dict(self.headers.items()), body))
        refused = len(self.server.met) <= self.server.refuse
        self.send_response(self.server.status if refused else 204)
        if self.server.status == 302:
            self.send_header("location", self.server.url + "/elsewhere")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver():
    with Receiver() as server:
        yield server
        server.shutdown()


@pytest.fixture
def told(ledger_settings):
    return ledger_settings.model_copy(update={"webhook_secret": SecretStr(SECRET)})


def ended(ledger, **options):
    """A job with one tagged photo that has ended, and its deliveries."""
    job_id = ledger.list([ref("ann/1.jpg")], **options)
    ledger.tag_all(job_id, "dog")
    ledger.execute(f"UPDATE core.job SET state = {JobState.SUCCEEDED}, finished_at = now() WHERE job_id = :j", j=job_id)
    return job_id


def of_job(ledger, job_id):
    return ledger.database.run(lambda c: delivery.of_job(c, job_id))


def bring(ledger, settings, delivery_id, stop=None):
    heart = Heart(ledger.database, "bringer", INGEST_QUEUE, settings.lease_seconds)
    deliver_one(settings, heart, delivery_id, stop or threading.Event())


def due_again(ledger):
    ledger.execute("UPDATE core.delivery SET next_attempt_at = NULL")


def checked(headers, body):
    """The notice, whose signature is right; as a receiver would do it."""
    headers = {name.lower(): value for name, value in headers.items()}
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.new(base64.b64decode(SECRET.removeprefix("whsec_")), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    return headers["webhook-id"], json.loads(body)


# ---- notices


def test_a_notice_is_tried_until_it_is_taken_with_one_id(ledger, ingest, told, receiver):
    receiver.refuse = 2
    job_id = ended(ledger, notify=(receiver.url,))
    (waiting,) = of_job(ledger, job_id)
    pauses = []
    for _ in range(2):
        bring(ingest, told, waiting.delivery_id)
        (seen,) = of_job(ledger, job_id)
        assert (seen.state, seen.condition) == (WorkState.PENDING, "waiting to be tried again")
        assert "answered 500" in seen.error
        pauses.append(ledger.one("SELECT next_attempt_at - now() FROM core.delivery").total_seconds())
        bring(ingest, told, waiting.delivery_id)  # not due yet
        due_again(ledger)
    bring(ingest, told, waiting.delivery_id)
    bring(ingest, told, waiting.delivery_id)  # a message may come again
    (done,) = of_job(ledger, job_id)
    assert (done.state, done.attempts, done.error, done.facts) == (WorkState.DONE, 3, None, {"status": 204})
    assert 0 < pauses[0] <= 10 < pauses[1] <= 20
    notices = [checked(headers, body) for _, headers, body in receiver.met]
    assert [event for event, _ in notices] == [waiting.event_id] * 3
    assert len({json.dumps(notice) for _, notice in notices}) == 1
    notice = notices[0][1]
    assert notice["type"] == "job.ended"
    assert (notice["data"]["job"], notice["data"]["state"]) == (job_id, "succeeded")
    assert notice["data"]["counts"] == {"total": 1, "succeeded": 1}
    assert notice["data"]["event_id"] == waiting.event_id


KILLED = """
import os, signal, sys, threading
from pipeline import crashpoints
from pipeline.settings import Settings
from pipeline.store.session import Database
from workers.deliver import deliver_one
from workers.heart import Heart

def kill(point):
    if point is crashpoints.Point.DELIVER_BEFORE_COMMIT:
        os.kill(os.getpid(), signal.SIGKILL)

crashpoints.arm(kill)
settings = Settings()
database = Database(settings.database_url.get_secret_value(), "killed bringer", connections=1)
deliver_one(settings, Heart(database, "killed", "ingest", 0.1), int(sys.argv[1]), threading.Event())
"""


def test_a_notice_that_was_sent_before_its_worker_was_killed_comes_again_with_the_same_id(ledger, told, receiver):
    job_id = ended(ledger, notify=(receiver.url,))
    (waiting,) = of_job(ledger, job_id)
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)} | told.model_copy(update={"lease_seconds": 0.1}).environment()
    command = [sys.executable, "-c", KILLED, str(waiting.delivery_id)]
    assert subprocess.run(command, env=env, check=False).returncode == -signal.SIGKILL
    assert len(receiver.met) == 1
    assert of_job(ledger, job_id)[0].state is WorkState.LEASED
    wait_for(lambda: ledger.database.run(delivery.expire))
    due_again(ledger)
    bring(ledger, told, waiting.delivery_id)
    assert of_job(ledger, job_id)[0].state is WorkState.DONE
    assert {checked(headers, body)[0] for _, headers, body in receiver.met} == {waiting.event_id}
    assert len(receiver.met) == 2


def test_what_nobody_takes_is_given_up_and_says_why(ledger, told, receiver):
    receiver.refuse = MOST_ATTEMPTS
    job_id = ended(ledger, notify=(receiver.url,))
    (waiting,) = of_job(ledger, job_id)
    ledger.execute("UPDATE core.delivery SET attempts = :n", n=MOST_ATTEMPTS - 2)
    for state in (WorkState.PENDING, WorkState.CANCELLED):
        due_again(ledger)
        bring(ledger, told, waiting.delivery_id)
        (seen,) = of_job(ledger, job_id)
        assert seen.state is state
    assert (seen.condition, seen.attempts) == ("given up", MOST_ATTEMPTS)
    assert f"Given up after {MOST_ATTEMPTS} tries" in seen.error
    due_again(ledger)
    bring(ledger, told, waiting.delivery_id)
    assert len(receiver.met) == 2


def test_pauses_grow_up_to_an_hour_and_last_about_a_day():
    pauses = [delivery.pause_seconds(n) for n in range(1, MOST_ATTEMPTS)]
    assert pauses == sorted(pauses)
    assert (pauses[0], pauses[-1]) == (10.0, 3600.0)
    assert 20 * 3600 < sum(pauses) < 28 * 3600


def test_a_redirect_is_not_followed(told, receiver):
    receiver.refuse, receiver.status = 1, 302
    with pytest.raises(ServiceDown, match="answered 302"):
        webhook.post(receiver.url, b"{}", key=b"k" * 32, event_id="e", timestamp=1)
    assert len(receiver.met) == 1


@pytest.mark.parametrize(
    "url", ["http://example.org/x", "https://ann:word@example.org/", "ftp://127.0.0.1/", "file:///x"]
)
def test_a_notice_goes_only_where_it_may(url):
    with pytest.raises(ConfigurationError):
        webhook.post(url, b"{}", key=b"k" * 32, event_id="e", timestamp=1)


def test_an_address_where_nobody_listens_is_an_outage(receiver):
    receiver.shutdown()
    receiver.server_close()
    with pytest.raises(ServiceDown, match="did not take the notice"):
        webhook.post(receiver.url, b"{}", key=b"k" * 32, event_id="e", timestamp=1)


# ---- results


def test_results_and_their_summary_are_written_to_files(ledger, ingest, told, tmp_path):
    folder = tmp_path / "not there yet"
    outputs = (Output(target=f"{folder}/{{job}}/"), Output(target=f"{tmp_path}/all.csv", format="csv"))
    job_id = ended(ledger, outputs=outputs)
    lines, table = of_job(ledger, job_id)
    for _ in range(2):
        bring(ingest, told, lines.delivery_id)
        bring(ingest, told, table.delivery_id)
    written = folder / str(job_id) / "results.jsonl"
    (line,) = map(json.loads, written.read_text().splitlines())
    assert (line["source-ref"], line["state"]) == ("s3://photos/ann/1.jpg", "succeeded")
    said = json.loads((folder / str(job_id) / "summary.json").read_text())
    assert said["every_photo_accounted_for"] is True
    assert said["results"]["sha256"] == hashlib.sha256(written.read_bytes()).hexdigest()
    assert (tmp_path / "all.csv").read_text().splitlines()[1].startswith("photos,ann/1.jpg,,succeeded,,200,")
    assert (tmp_path / "all.summary.json").exists()
    assert {path.name for path in tmp_path.rglob("*.part")} == set()
    (done, _) = of_job(ledger, job_id)
    assert (done.state, done.attempts, done.facts["lines"]) == (WorkState.DONE, 1, 1)


def test_results_are_written_to_s3_in_parts(ledger, ingest, told, access, monkeypatch):
    create_bucket(access, "results-in-parts")
    client = access.client()
    try:
        job_id = ended(ledger, outputs=(Output(target="s3://results-in-parts/night/"),))
        ledger.execute(
            "INSERT INTO core.job_line (job_id, line, uri, state, code, message) "
            "SELECT :job, n, 's3://photos/' || n, 6, 25, repeat('why ', 40) FROM generate_series(2, 30000) n",
            job=job_id,
        )
        monkeypatch.setattr(sinks, "PART_BYTES", 5 * 1024 * 1024)  # the least that S3 takes
        client.create_multipart_upload(Bucket="results-in-parts", Key="night/results.jsonl")  # somebody was killed
        (waiting,) = of_job(ledger, job_id)
        bring(ingest, told, waiting.delivery_id)
        (done,) = of_job(ledger, job_id)
        assert (done.error, done.state) == (None, WorkState.DONE)
        data = client.get_object(Bucket="results-in-parts", Key="night/results.jsonl")["Body"].read()
        assert len(data) > 5 * 1024 * 1024
        assert data.count(b"\n") == done.facts["lines"] == 30_000
        assert hashlib.sha256(data).hexdigest() == done.facts["sha256"]
        said = json.loads(client.get_object(Bucket="results-in-parts", Key="night/summary.json")["Body"].read())
        assert said["results"]["source-ref"] == "s3://results-in-parts/night/results.jsonl"
        assert client.list_multipart_uploads(Bucket="results-in-parts").get("Uploads", []) == []
    finally:
        client.delete_bucket(Bucket="results-in-parts")


def test_who_may_not_write_is_told_what_to_set(ledger, told, endpoints, access):
    create_bucket(access, "results-closed")
    try:
        reader = told.model_copy(
            update={
                "s3_access_key_id": endpoints.s3_reader_access_key_id,
                "s3_secret_access_key": SecretStr(endpoints.s3_reader_secret_access_key),
            }
        )
        job_id = ended(ledger, outputs=(Output(target="s3://results-closed/"),))
        (waiting,) = of_job(ledger, job_id)
        bring(ledger, reader, waiting.delivery_id)
        (seen,) = of_job(ledger, job_id)
        assert seen.state is WorkState.PENDING
        assert "PICTOGRAPH_OUTPUT_ACCESS_KEY_ID" in seen.error
    finally:
        access.client().delete_bucket(Bucket="results-closed")


def test_a_place_that_cannot_be_written_waits_and_says_so(ledger, told, tmp_path):
    (tmp_path / "file").write_text("in the way")
    job_id = ended(ledger, outputs=(Output(target=f"{tmp_path}/file/results.jsonl"),))
    (waiting,) = of_job(ledger, job_id)
    bring(ledger, told, waiting.delivery_id)
    assert "cannot be written on the machine of the ingest worker" in of_job(ledger, job_id)[0].error


def test_outputs_outside_of_the_listed_places_are_refused_at_delivery_too(ledger, told, tmp_path):
    (tmp_path / "way out").symlink_to(tmp_path / "outside")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "way out").symlink_to(tmp_path)
    walled = told.model_copy(update={"outputs": (str(tmp_path / "inside"),)})
    for target in (f"{tmp_path}/outside/x.jsonl", f"{tmp_path}/inside/way out/x.jsonl", "s3://photos/x.jsonl"):
        job_id = ended(ledger, outputs=(Output(target=target),))
        (waiting,) = of_job(ledger, job_id)
        bring(ledger, walled, waiting.delivery_id)
        assert "PICTOGRAPH_OUTPUTS" in of_job(ledger, job_id)[0].error
    assert not (tmp_path / "x.jsonl").exists()


def test_a_stop_leaves_nothing_and_is_no_try(ledger, told, tmp_path):
    job_id = ended(ledger, outputs=(Output(target=f"{tmp_path}/out.jsonl"),))
    (waiting,) = of_job(ledger, job_id)
    stop = threading.Event()
    stop.set()
    bring(ledger, told, waiting.delivery_id, stop)
    (seen,) = of_job(ledger, job_id)
    assert (seen.state, seen.attempts) == (WorkState.PENDING, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_whose_lease_was_lost_writes_nothing_into_the_ledger(ledger, told, tmp_path, monkeypatch):
    job_id = ended(ledger, outputs=(Output(target=f"{tmp_path}/out.jsonl"),))
    (waiting,) = of_job(ledger, job_id)
    write = deliver._bring

    def late(errand, lease):
        facts = write(errand, lease)
        ledger.execute("UPDATE core.delivery SET lease_epoch = lease_epoch + 1")
        return facts

    monkeypatch.setattr(deliver, "_bring", late)
    bring(ledger, told, waiting.delivery_id)
    assert of_job(ledger, job_id)[0].state is WorkState.LEASED


def test_while_it_is_written_its_lease_is_renewed(ledger, ingest, told, tmp_path, monkeypatch):
    """A receiver may be slow: nobody else comes for the delivery as long as its worker's heart beats."""
    job_id = ended(ledger, outputs=(Output(target=f"{tmp_path}/out.jsonl"),))
    (waiting,) = of_job(ledger, job_id)
    lease = "SELECT lease_until FROM core.delivery"
    write = sinks.LocalFile.write

    def slow(sink, data):
        until = ledger.one(lease)
        wait_for(lambda: ledger.one(lease) > until)
        write(sink, data)

    monkeypatch.setattr(sinks.LocalFile, "write", slow)
    heart = Heart(ingest.database, "bringer", INGEST_QUEUE, 1.5)
    heart.start()
    try:
        deliver_one(told.model_copy(update={"lease_seconds": 1.5}), heart, waiting.delivery_id, threading.Event())
    finally:
        heart.stop()
    (done,) = of_job(ledger, job_id)
    assert (done.state, done.attempts) == (WorkState.DONE, 1)


# ---- when


def publish(ledger):
    return [bell.work_id for bell in ledger.database.run(delivery.publishable)]


@pytest.fixture
def listening(ledger):
    ledger.database.run(lambda c: roster.note_worker(c, "lister", INGEST_QUEUE, progressed=False))


def test_nothing_is_brought_before_the_job_has_ended(ledger, worker, listening, told):
    job_id = ledger.list([ref("a.jpg")], notify=("https://example.org/x",))
    (waiting,) = of_job(ledger, job_id)
    assert publish(worker) == []
    assert ledger.database.run(lambda c: DELIVERIES.claim(c, waiting.delivery_id, "w", 60)) is None
    ledger.database.run(lambda c: jobs.find(c, job_id))
    ledger.execute(f"UPDATE core.job SET state = {JobState.CANCELLED}")
    assert publish(worker) == [waiting.delivery_id]
    assert publish(worker) == []  # it is on its way
    assert worker.database.run(lambda c: delivery.unqueue(c, 0)) == 1
    assert publish(worker) == [waiting.delivery_id]


def test_a_notice_waits_for_the_results_but_not_for_ever(ledger, worker, listening):
    job_id = ended(ledger, outputs=(Output(target="/results/"),), notify=("https://example.org/x",))
    lines, notice = (each.delivery_id for each in of_job(ledger, job_id))
    assert publish(worker) == [lines]
    ledger.execute(
        "UPDATE core.delivery SET state = 0, attempts = 2, next_attempt_at = now() + interval '1 h' "
        "WHERE delivery_id = :d",
        d=lines,
    )
    assert publish(worker) == []
    ledger.execute("UPDATE core.delivery SET attempts = 3 WHERE delivery_id = :d", d=lines)
    assert publish(worker) == [notice]


def test_a_message_that_could_not_be_sent_is_taken_back(ledger, worker, listening):
    job_id = ended(ledger, notify=("https://example.org/x",))
    bells = worker.database.run(delivery.publishable)
    worker.database.run(lambda c: delivery.take_back(c, bells))
    assert of_job(ledger, job_id)[0].state is WorkState.PENDING


def test_where_an_output_lies():
    found = [
        target_of(text, form, 7)
        for text, form in (("s3://bin/x/{job}/", "jsonl"), ("s3://bin/", "csv"), ("/a/b.csv", "csv"), ("/a/b", "jsonl"))
    ]
    assert [(each.results_uri, each.summary) for each in found] == [
        ("s3://bin/x/7/results.jsonl", "x/7/summary.json"),
        ("s3://bin/results.csv", "summary.json"),
        ("/a/b.csv", "/a/b.summary.json"),
        ("/a/b", "/a/b.summary.json"),
    ]
