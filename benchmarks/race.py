"""One contender's run: started, timed, its processor time and memory taken, its answers collected."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from benchmarks import processes
from benchmarks.peers.harness import ANSWERS, Answer, Job, read_answers

ROOT = Path(__file__).resolve().parents[1]
PEERS_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
READY_SECONDS, LEAVE_SECONDS = 240.0, 60.0
RUN_SECONDS, PHOTO_SECONDS = 120.0, 1.0  # a run may take so long, and so long more for each photo; then it hangs
LAST_LINES = 12  # of a log, where a contender says nothing itself
#: Nobody asks a hub, or tells anybody.
QUIET = {
    "DO_NOT_TRACK": "1",
    "DAFT_ANALYTICS_ENABLED": "0",
    "DAFT_PROGRESS_BAR": "0",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TQDM_DISABLE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "OPENVINO_TELEMETRY_DISABLED": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A contender that can be started."""

    name: str
    module: str  # in benchmarks.peers
    what: str
    precision: str
    ours: bool = False  # runs in our environment, not in the peers'
    variables: Mapping[str, str] = field(default_factory=dict)


def _peer(name: str, module: str, what: str, precision: str = "fp32", **variables: str) -> Entry:
    return Entry(name=name, module=module, what=what, precision=precision, variables=variables)


ENTRIES = {
    entry.name: entry
    for entry in (
        Entry(
            name="ours",
            module="ours",
            what="Pictograph: from S3 to rows, rolled up, with totals",
            precision="as tuned",
            ours=True,
        ),
        _peer("celery", "celery_task", "a Celery task per photo: boto3, Pillow, torch, INSERT"),
        _peer("timm", "timm_script", "a script as timm's: DataLoader, batches, CSV"),
        _peer("timm-tuned", "timm_script", "the same, channels_last and autocast", "bf16", BENCH_TUNED="1"),
        _peer("huggingface", "hf_pipeline", "the image-classification pipeline of transformers"),
        # The variable's value keeps Ray on the loopback interface; by itself it listens to the world.
        _peer("ray", "ray_data", "Ray Data: map, map_batches, write_csv", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0"),
        _peer("daft", "daft_frame", "Daft: download, decode_image, apply, a model class, write_csv"),
    )
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one run went."""

    contender: str
    error: str | None  # None: it went through
    start_seconds: float = 0.0  # until it was ready; in no other figure
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of the contender's processes
    server_cpu_seconds: Mapping[str, float] = field(default_factory=dict)  # by server, those of all cores
    peak_mb: float = 0.0  # of its processes, what they share counted once
    largest_mb: float = 0.0  # of the largest of them, resident
    more: Mapping[str, object] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()


class Servers:
    """The processor time of the embedded servers, each with its children."""

    def __init__(self, keeper: int) -> None:
        self._keeper = psutil.Process(keeper)

    def cpu_seconds(self) -> dict[str, float]:
        """By the name of the server's process, so far."""
        return {each.name(): processes.cpu_seconds(processes.tree(each.pid)) for each in self._keeper.children()}


class Lost(Exception):
    """The contender ended, or said nothing in time."""


class Talk:
    """The conversation with a contender's process."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def say(self, word: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def hear(self, seconds: float, *events: str) -> dict[str, object]:
        """The next message, which must be one of these events; raises Lost."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise Lost(f"said nothing for {seconds:.0f} s") from None
        if line is None:
            raise Lost("ended early")
        message: dict[str, object] = json.loads(line)
        if message["event"] not in events:
            raise Lost(f"said {message['event']} where {' or '.join(events)} was due")
        return message


def run(entry: Entry, job: Job, servers: Servers) -> Run:
    """One run in an empty folder of its own, `job.scratch`."""
    scratch = Path(job.scratch)
    scratch.mkdir(mode=0o700)
    job.write(scratch / "job.json")
    python = sys.executable if entry.ours else str(PEERS_PYTHON)
    with (scratch / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [python, "-m", "benchmarks.peers", entry.module, str(scratch / "job.json")],
            cwd=ROOT,
            env=_environment(entry, scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            return _timed(entry, Talk(process), process.pid, job, servers)
        except Lost as exc:
            lines = _tail(scratch / "log")
            return Run(contender=entry.name, error=f"{exc}: {lines[-1]}", more={"log": lines})
        finally:
            _leave(process)


def _timed(entry: Entry, talk: Talk, pid: int, job: Job, servers: Servers) -> Run:
    started = time.perf_counter()
    talk.hear(READY_SECONDS, "ready")
    start_seconds = time.perf_counter() - started
    talk.say("go")
    message = talk.hear(READY_SECONDS, "began", "broke")
    if message["event"] == "broke":
        return Run(contender=entry.name, error=str(message["error"]), start_seconds=start_seconds)
    cpu, of_servers = processes.cpu_seconds(processes.tree(pid)), servers.cpu_seconds()
    watch = processes.Watch(pid)
    message = talk.hear(RUN_SECONDS + PHOTO_SECONDS * len(job.keys), "done", "broke")
    cpu = processes.cpu_seconds(processes.tree(pid)) - cpu
    of_servers = {name: spent - of_servers.get(name, 0.0) for name, spent in servers.cpu_seconds().items()}
    seen = watch.stop()
    found = Run(
        contender=entry.name,
        error=str(message["error"]) if message["event"] == "broke" else None,
        start_seconds=start_seconds,
        seconds=float(str(message["seconds"])),
        cpu_seconds=max(cpu, seen.cpu_seconds),  # either may miss something, and neither counts anything twice
        server_cpu_seconds=of_servers,
        peak_mb=seen.peak.shared_out,
        largest_mb=seen.peak.largest,
        more=message.get("more") or {},  # type: ignore[arg-type]
    )
    talk.say("show")
    talk.hear(READY_SECONDS, "shown")
    return replace(found, answers=tuple(read_answers([Path(job.scratch) / ANSWERS])))


def _environment(entry: Entry, scratch: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    ours = {name: value for name, value in os.environ.items() if entry.ours and name.startswith("PICTOGRAPH_")}
    places = {"HOME": str(scratch), "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    return {**kept, **ours, **places, **QUIET, **entry.variables}


def _leave(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(LEAVE_SECONDS)
    except subprocess.TimeoutExpired:
        processes.end(process.pid)
        process.wait(LEAVE_SECONDS)


def _tail(log: Path) -> list[str]:
    """The last lines of a log, of which there is one at least."""
    return log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-LAST_LINES:] or ["its log is empty"]
