"""Results that are delivered, a notice that is signed, and a schedule that fires: the command line and real workers."""

import csv
import hashlib
import hmac
import json
import shutil
import threading
from base64 import b64encode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.acceptance.conftest import WEBHOOK_SECRET, Site, wait_for


class Receiver(ThreadingHTTPServer):
    """Takes every notice, and remembers it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.met: list[tuple[dict[str, str], bytes]] = []


class Handler(BaseHTTPRequestHandler):
    """What is done with one notice."""

    server: Receiver

    def do_POST(self) -> None:
        """Remember it."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.met.append((headers, self.rfile.read(int(headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def album(tmp_path: Path, photos: list[Path]) -> Path:
    """Five photographs of Ann's, and a file that is none."""
    folder = tmp_path / "album"
    for n, photo in enumerate(photos[:5]):
        (folder / "ann").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(photo, folder / "ann" / f"{n}{photo.suffix}")
    (folder / "ann" / "note.jpg").write_text("no photo at all")
    return folder


def test_results_and_notices_are_delivered(site: Site, album: Path, receiver: Receiver, tmp_path: Path) -> None:
    site.new_bucket("results")
    notify = f"http://127.0.0.1:{receiver.server_address[1]}/ended"
    where = tmp_path / "out"
    outputs = ("--output", f"{where}/", "--output", f"{where}/{{job}}.csv", "--output", "s3://results/night/{job}/")
    report = site.report("tag", album, *outputs, "--notify", notify)
    assert [each["state"] for each in report["deliveries"]] == ["delivered"] * 4
    job = report["job"]

    written = (where / "results.jsonl").read_bytes()
    lines = [json.loads(line) for line in written.splitlines()]
    assert [line["line"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert sorted(line["state"] for line in lines) == ["failed", *["succeeded"] * 5]
    assert all(line["source-ref"].startswith(f"file://{album}/ann/") and line["user"] == "ann" for line in lines)
    assert all(set(tag) == {"wnid", "name", "probability"} for line in lines for tag in line["tags"])
    with (where / f"{job}.csv").open(newline="") as file:
        assert [row["TaskStatus"] for row in csv.DictReader(file)].count("succeeded") == 5
    said = json.loads((where / "summary.json").read_text())
    assert said["every_photo_accounted_for"] is True
    assert said["results"]["sha256"] == hashlib.sha256(written).hexdigest()
    # Everybody who asks is told the same, whatever the way.
    assert site.ask("jobs", "results", job).stdout.encode() == written
    stored = site.access.client().get_object(Bucket="results", Key=f"night/{job}/results.jsonl")
    assert stored["Body"].read() == written

    ((headers, body),) = receiver.met
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.digest(WEBHOOK_SECRET.encode(), signed, "sha256")
    assert headers["webhook-signature"] == f"v1,{b64encode(digest).decode()}"
    told = json.loads(body)["data"]
    assert (told["job"], told["state"], told["counts"]["total"]) == (job, "succeeded_with_errors", 6)
    assert site.ask("jobs", "show", job).stdout.count(": delivered at ") == 4


def test_a_schedule_fires_once_for_what_was_missed(site: Site, album: Path, tmp_path: Path) -> None:
    add = ("schedule", "add", "--name", "nightly", "--cron", "*/10 * * * *", "--user", "ann")
    added = site.report(*add, album, "--output", f"{tmp_path}/{{job}}.jsonl")
    assert added["request"]["source"] == str(album)
    # An hour without any redriver: the times of that hour are due together.
    site.rows("UPDATE core.schedule SET next_at = next_at - interval '1 h' WHERE name = 'nightly' RETURNING 1")
    wait_for(lambda: site.rows("SELECT FROM core.firing"))
    fired = site.report("schedule", "history", "nightly")
    assert fired["missed"] in (5, 6)
    written = tmp_path / f"{fired['job_id']}.jsonl"
    wait_for(written.exists)
    assert len(written.read_text().splitlines()) == 6

    again = site.report("schedule", "run-now", "nightly")
    wait_for((tmp_path / f"{again['job_id']}.jsonl").exists)
    assert site.differences() == 0
    assert site.report("schedule", "list")["name"] == "nightly"
    assert site.report("schedule", "remove", "nightly") == {"removed": "nightly"}
    assert site.ask("schedule", "list").stdout.startswith("There are no schedules")
    assert site.ask("schedule", "history").stdout.count("job ") == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("schedule", "add", "--name", "n", "--cron", "0 9 * * *", "--window", "01:00-06:00", "{album}"), "never run"),
        (("schedule", "add", "--name", "n", "--cron", "0 2 * * *", "--output", "/tmp/x.jsonl", "{album}"), "{job}"),
        (("tag", "--notify", "http://example.org/", "{album}"), "not https"),
    ],
)
def test_wrong_use_is_one_sentence(site: Site, album: Path, arguments: tuple[str, ...], says: str) -> None:
    done = site.ask(*(each.replace("{album}", str(album)) for each in arguments))
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
