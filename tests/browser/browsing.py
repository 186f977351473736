"""A site with real photographs, tagged by the real pipeline, and Chromium to look at it: each once per run.

site        where the pages are, who the people are, and the command line of that installation
open_page   opens a page of the site; the test fails on whatever the console complains of, the policy for one
flaws       what is wrong with an open page, whatever it shows: axe's findings, and what this module looks for
"""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from furnishing import furnish
from hostile import FILES, MARK
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from api.names import encoded
from pictograph import samples, stack
from pipeline.settings import PREFIX

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-P", "-m", "pictograph"]
CHROMIUM = os.environ.get("PICTOGRAPH_TEST_CHROMIUM", "/usr/bin/chromium")
PATIENCE_SECONDS = 240  # for a command, on a machine that may be slow and busy
PAGE_SECONDS = 30  # for whatever a page is waited for
PHONE, DESKTOP = (390, 844), (1440, 900)
LOOKS = ((DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark"))
LOOKS_OF_AXE = (LOOKS[0], LOOKS[3])  # which see every colour and every layout; it takes its time

#: The people of the samples, under names as people have them and as nobody should have to escape them.
NAMES = {"cleo": "cleo", "marie": 'Marie <img src=x onerror=alert(1)> & "Co"', "otto": "أوتو 🌊"}


@dataclass(frozen=True, kw_only=True)
class Site:
    """An installation that serves."""

    url: str
    closed_url: str  # the same where nobody is let in without a key
    key: str  # to there, of a user who sees no jobs; its name is markup
    env: dict[str, str]
    users: tuple[str, ...]  # cleo photographs animals, the second the road, the third things; its name runs leftward

    def user(self, which: int = 0) -> str:
        """The address of a user's pictograph, below the site's."""
        return f"/u/{encoded(self.users[which])}"

    def comparison(self, one: int, other: int) -> str:
        """The address of two users' comparison."""
        return f"/compare/{encoded(self.users[one])}/{encoded(self.users[other])}"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The samples of three users, taken over a year and a half, tagged; users and jobs that are stranger; the API.

    It has a stack of its own, as whoever tries the product has: other tests empty the shared database as they please.
    """
    home = tmp_path_factory.mktemp("site")
    models = tmp_path_factory.getbasetemp() / "models"  # converted once for all
    env = _environment(home=home, models=models, decode_processes=1, api_port=0, api_requests_per_minute=0)
    with stack.open(home) as endpoints, ExitStack() as serving:
        _tag(env, _photos(home / "photos"))
        key = furnish(endpoints.database_url, home / "copies", agreeing=(NAMES["cleo"], NAMES["otto"]))
        servers = [serving.enter_context(_served({**env, f"{PREFIX}API_OPEN": way})) for way in ("true", "false")]
        url, closed_url = (json.loads(server.stdout.readline())["api"] for server in servers)  # type: ignore[union-attr]
        yield Site(url=url, closed_url=closed_url, key=key, env=env, users=tuple(NAMES.values()))


def _environment(**settings: object) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    named = {PREFIX + name.upper(): str(value) for name, value in settings.items()}
    return {**kept, "PYTHONPATH": str(REPOSITORY), **named}


def _tag(env: dict[str, str], folder: Path) -> None:
    command = [*COMMAND, "tag", str(folder), "--user-from", "{user}/{photo}"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert "succeeded with errors" in done.stdout, done.stderr  # some are no photos


@contextmanager
def _served(env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*COMMAND, "api", "--json"], env=env, stdout=subprocess.PIPE, text=True) as server:
        yield server
        server.terminate()


def _photos(folder: Path) -> Path:
    """The samples, a folder for each user; no two of one month. The last user has files of strange names, too."""
    first = datetime(2024, 1, 15, 12, tzinfo=UTC)
    for month, picture in zip(itertools.cycle(range(18)), samples.bundled(), strict=False):
        path = folder / NAMES[picture.user] / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.path.read_bytes())
        taken = (first + timedelta(days=30.4 * month)).timestamp()
        os.utime(path, (taken, taken))
    for name in FILES:
        (path.parent / name).write_bytes(path.read_bytes() if name is FILES[0] else b"no photo <script>")
    return folder


# ---- the browser


@pytest.fixture(scope="module")  # Playwright keeps an event loop in this thread: other files want none there
def chromium() -> Iterator[Browser]:
    """Chromium without a window."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no {CHROMIUM}; install Chromium, or set PICTOGRAPH_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(site: Site, chromium: Browser) -> Iterator[OpenPage]:
    """Opens a page in a context of its own; nothing its console complains of may be left when the test is over.

    What the console says of an error that is expected, of this page (`status`) or of one behind it (`later`), is no
    complaint.
    """
    complaints: list[str] = []
    contexts: list[BrowserContext] = []

    def opened(
        path: str,
        size: tuple[int, int] = DESKTOP,
        theme: str = "light",
        *,
        script: bool = True,
        motion: bool = False,
        base: str = site.url,
        status: int = 200,
        later: int = 0,
    ) -> Page:
        context = chromium.new_context(
            base_url=base,
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,  # type: ignore[arg-type]
            reduced_motion="no-preference" if motion else "reduce",
            java_script_enabled=script,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(1000 * PAGE_SECONDS)
        page.on("console", lambda said: complaints.extend(_complaint(said, {status, later})))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
        if path:
            answer = page.goto(path)
            assert answer is not None
            assert answer.status == status
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def _complaint(said: ConsoleMessage, expected: set[int]) -> list[str]:
    told = any(f"status of {status} " in said.text for status in expected)
    return [f"{said.location}: {said.text}"] if said.type in ("error", "warning") and not told else []


@pytest.fixture(scope="session")
def flaws() -> Callable[[Page], list[str]]:
    """What is wrong with an open page in each of four looks, wide and narrow, light and dark: a line for each flaw."""
    axe = Axe()

    def found(page: Page) -> list[str]:
        broken = []
        for size, theme in LOOKS:
            page.set_viewport_size({"width": size[0], "height": size[1]})
            page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            look = f"{size[0]} px, {theme}"
            broken += [f"{look}: {flaw}" for flaw in page.evaluate(_FLAWS, MARK)]
            rules = axe.run(page).response["violations"] if (size, theme) in LOOKS_OF_AXE else []
            broken += [
                f"{look}: {rule['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
                for rule in rules
                for node in rule["nodes"]
            ]
        return broken

    return found


#: One headline; nothing wider than the view; pictures whose place is kept, and which wait below the view; no strange
#: script ran, and nothing in the page is one.
_FLAWS = """mark => {
    const found = [];
    const across = document.documentElement.scrollWidth - document.documentElement.clientWidth;
    if (across > 0) found.push(`${across} px too wide`);
    if (document.querySelectorAll("h1").length !== 1) found.push("not one h1");
    for (const each of document.images) {
        if (!each.getAttribute("width") || !each.getAttribute("height")) found.push(`no place is kept: ${each.src}`);
        const below = each.getBoundingClientRect().top > 3 * innerHeight;
        if (below && each.loading !== "lazy") found.push(`loaded though it is far below: ${each.src}`);
        if (each.complete && each.naturalWidth === 0) found.push(`no picture: ${each.src}`);
    }
    if (mark in window) found.push("a script ran");
    const foreign = "script:not([src^='/static/']), style, [style]:not(.span), iframe, object, [href^='javascript:']";
    for (const each of document.querySelectorAll(foreign)) found.push(`not ours: ${each.outerHTML.slice(0, 200)}`);
    for (const each of document.querySelectorAll("*"))
        for (const name of each.getAttributeNames())
            if (name.startsWith("on")) found.push(`a handler: ${each.outerHTML.slice(0, 200)}`);
    return found;
}"""
