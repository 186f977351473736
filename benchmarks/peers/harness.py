"""A contender's side of a race: it is told what to do, says when it is ready, waits, runs, and then shows its answers.

    referee                                   contender
    starts it, with the path of the job  ──▶  starts its servers, loads its model
                                         ◀──  {"event": "ready"}
    "go"                                 ──▶  whatever it can only start together with its work
                                         ◀──  {"event": "began"}
    looks at the processor times              all photos, until every answer is written down
                                         ◀──  {"event": "done", "seconds": …} or {"event": "broke", "error": …}
    looks at them again, "show"          ──▶  writes answers.csv, which is not timed
                                         ◀──  {"event": "shown"}

One JSON object a line. Standard output belongs to this talk: whatever a library prints goes to standard error.
"""

import csv
import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import boto3

ANSWERS = "answers.csv"
LONGEST_ERROR = 300  # characters
ERROR_LINE = re.compile(r"^[\w.]+(?:Error|Exception): .*", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a contender is to do, and with what."""

    endpoint_url: str  # of the S3 server
    access_key_id: str
    secret_access_key: str
    region: str
    bucket: str
    prefix: str  # all photos lie under it, as prefix/user/name
    keys: tuple[str, ...]  # of all photos
    labels: tuple[str, ...]  # synset id by class
    database_url: str
    broker_url: str
    cores: int
    batch: int  # photos per forward pass, for those who batch
    scratch: str  # folder for whatever the contender writes

    def write(self, path: Path) -> None:
        """Keep the job in a file that its owner alone may read: it holds passwords."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)

    @classmethod
    def read(cls, path: Path) -> "Job":
        """The job of a file."""
        values: dict[str, Any] = json.loads(path.read_bytes())
        for name in ("keys", "labels"):
            values[name] = tuple(values[name])
        return cls(**values)

    def client(self) -> Any:  # noqa: ANN401 - boto3's clients have no type of their own
        """A boto3 client for the photos; processes may not share it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
        )

    def get(self, client: Any, key: str) -> bytes:  # noqa: ANN401
        """The bytes of a photo."""
        data: bytes = client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return data


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a contender says that a photo shows."""

    key: str
    wnid: str  # of the first label; empty: the photo was given up
    score: float


class Contender(Protocol):
    """A way to classify photos, ready to run: servers started, model loaded."""

    def run(self, began: Callable[[], None]) -> dict[str, object]:
        """Classify all photos and write every answer down; returns what else is worth reporting.

        The clock starts when `began` is called, once, before any photo is touched.
        """

    def answers(self) -> Iterable[Answer]:
        """What was written down."""

    def close(self) -> None:
        """End everything that was started."""


def serve(prepare: Callable[[Job], Contender], path: Path) -> None:
    """Take part in a race with the job of that file."""
    job = Job.read(path)
    talk = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    contender = prepare(job)
    try:
        _say(talk, event="ready")
        if sys.stdin.readline().strip() != "go":
            return
        _run(contender, talk)
        if sys.stdin.readline().strip() == "show":
            write_answers(Path(job.scratch) / ANSWERS, contender.answers())
            _say(talk, event="shown")
    finally:
        contender.close()


def _run(contender: Contender, talk: TextIO) -> None:
    start = time.perf_counter()

    def began() -> None:
        nonlocal start
        _say(talk, event="began")
        start = time.perf_counter()

    try:
        more = contender.run(began)
    except Exception as exc:  # a contender that breaks is a result
        traceback.print_exc()
        _say(talk, event="broke", seconds=time.perf_counter() - start, error=in_a_line(exc))
    else:
        _say(talk, event="done", seconds=time.perf_counter() - start, more=more)


def in_a_line(exc: Exception) -> str:
    """The error in short; where its text is another process's traceback, the first error that this names: the cause."""
    named = ERROR_LINE.findall(str(exc))
    line: str = named[0] if named else f"{type(exc).__name__}: {str(exc).strip().partition(chr(10))[0]}"
    return line[:LONGEST_ERROR]


def _say(talk: TextIO, **message: object) -> None:
    print(json.dumps(message), file=talk, flush=True)


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """One line a photo: key, wnid, score."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows((answer.key, answer.wnid, f"{answer.score:.4f}") for answer in answers)


def read_answers(paths: Iterable[Path]) -> list[Answer]:
    """What `write_answers`, or a library with the same columns, has written; a line that names the columns is none."""
    answers = []
    for path in paths:
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.reader(file) if row and row != ["key", "wnid", "score"]]
            answers += [Answer(key=key, wnid=wnid, score=float(score or 0)) for key, wnid, score in rows]
    return answers
