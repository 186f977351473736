"""The API over the small ledger of `ledger_helpers`: clients, a served application, and what a stream says."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import httpx
import uvicorn
from api_helpers import app_of, asking_as, opened
from ledger_helpers import PATIENCE_SECONDS, Ledger, failed, wait_for

from api.auth import Principal, Scope
from api.jobs.watching import Watching
from api.main import _Server
from pipeline.ledger import ending
from pipeline.settings import Settings
from pipeline.store.roles import Role
from pipeline.store.session import Database

ROBOT = Principal(name="night robot", user=None, scopes=frozenset(Scope))
LOOK_SECONDS = 0.2


@dataclass
class Site:
    """The application over a ledger, as its processes reach both."""

    ledger: Ledger
    settings: Settings
    database: Database  # as role api
    decoder: object
    stack: object

    def client(self, principal=None, **settings):
        """A client who asks as this principal; None: of a server that runs open."""
        app = app_of(self.settings.model_copy(update=settings), self.database, self.decoder)
        return self.stack.enter_context(opened(app if principal is None else asking_as(app, principal)))

    def end(self, job_id):
        """Let the redriver's look end what has nothing open any more."""
        self.ledger.database.run(ending.finish_jobs)
        return self.ledger.job(job_id)


@contextmanager
def site_of(ledger, settings, decoder, stack):
    url = settings.database_url.get_secret_value()
    with Database(url, "pictograph api", 4, role=Role.API, statement_seconds=10.0) as database:
        yield Site(ledger, settings.model_copy(update={"api_open": True}), database, decoder, stack)


@dataclass
class Served:
    """An application that a real server serves, in a thread of its own."""

    server: _Server
    thread: threading.Thread
    watching: Watching
    url: str = ""

    def stop(self):
        self.server.should_exit = True
        self.thread.join(PATIENCE_SECONDS)
        assert not self.thread.is_alive()


@contextmanager
def served(site, **watching) -> Iterator[Served]:
    """The application on a port of its own, looking at jobs as often as tests like it."""
    app = app_of(site.settings, site.database, site.decoder)
    services = app.state.services
    app.state.services = replace(services, watching=Watching(look_seconds=LOOK_SECONDS, **watching))
    with serving(app) as made:
        yield made


@contextmanager
def serving(app) -> Iterator[Served]:
    """An application on a port of its own; open requests would be waited for longer than a test has patience."""
    found = app.state.services.watching
    ready = threading.Event()
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=int(2 * PATIENCE_SECONDS))
    server = _Server(config, ready.set, found.close)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert ready.wait(PATIENCE_SECONDS)
    port = server.servers[0].sockets[0].getsockname()[1]
    made = Served(server, thread, found, f"http://127.0.0.1:{port}")
    try:
        yield made
    finally:
        made.stop()


@dataclass
class Listener:
    """Somebody who listens to a job."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    events: list[tuple[str, dict]] = field(default_factory=list)
    comments: int = 0
    status: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def _listen(self):
        name = ""
        with httpx.stream("GET", self.url, headers=self.headers, timeout=2 * PATIENCE_SECONDS) as answer:
            self.status, self.kind = answer.status_code, answer.headers["content-type"]
            for line in answer.iter_lines():
                self.comments += line.startswith(":")
                name = line.removeprefix("event: ") if line.startswith("event: ") else name
                if line.startswith("data: "):
                    self.events.append((name, json.loads(line.removeprefix("data: "))))
        self.ended.set()

    def states(self):
        return [body["state"] for name, body in list(self.events) if name == "job"]

    def heard(self, state):
        """Wait until the job was told to stand so."""
        wait_for(lambda: state in self.states())


def failing(ledger, job_id, codes, tag="dog"):
    """Work on a job's photos: those whose keys end so fail for that reason, the others are tagged."""
    for lease in ledger.claim_all(job_id):
        ledger.merge([_result(ledger, task, codes, tag) for task in ledger.tasks(lease)], [lease])
    ledger.database.run(ending.finish_jobs)


def _result(ledger, task, codes, tag):
    code = next((code for end, code in codes.items() if task.key.endswith(end)), None)
    return ledger.tagged(task, tag) if code is None else failed(task, code, f"{code.name.lower()} & <b>cut off</b>")
