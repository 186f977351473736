"""A site with real photographs, tagged by the real pipeline, and Chromium to look at it: each once per run.

site        where the pages are, who the people are, and the command line of that installation
open_page   opens a page of the site; the test fails on whatever the console complains of, the policy for one
violations  what axe finds wrong with a page, each as one line
"""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from pictograph import samples, stack
from pipeline.settings import PREFIX

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-P", "-m", "pictograph"]
CHROMIUM = os.environ.get("PICTOGRAPH_TEST_CHROMIUM", "/usr/bin/chromium")
PATIENCE_SECONDS = 240  # for a command, on a machine that may be slow and busy
PAGE_SECONDS = 30  # for whatever a page is waited for
PHONE, DESKTOP = (390, 844), (1440, 900)

#: The people of the samples, under names as people have them and as nobody should have to escape them.
NAMES = {"cleo": "cleo", "marie": 'Marie <img src=x onerror=alert(1)> & "Co"', "otto": "أوتو 🌊"}


@dataclass(frozen=True, kw_only=True)
class Site:
    """An installation that serves."""

    url: str
    env: dict[str, str]
    users: tuple[str, ...]  # cleo photographs animals, the second the road, the third things; its name runs leftward

    def run(self, *arguments: object) -> str:
        """A command of this installation, to its end, which must be a good one; what it says."""
        command = [*COMMAND, *map(str, arguments)]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def user(self, which: int = 0) -> str:
        """The address of a user's pictograph, below the site's."""
        return f"/u/{quote(self.users[which], safe='')}"

    def comparison(self, one: int, other: int) -> str:
        """The address of two users' comparison."""
        return f"/compare/{quote(self.users[one], safe='')}/{quote(self.users[other], safe='')}"


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The samples of three users, taken over a year and a half, tagged; and the API.

    It has a stack of its own, as whoever tries the product has: other tests empty the shared database as they please.
    """
    home = tmp_path_factory.mktemp("site")
    models = tmp_path_factory.getbasetemp() / "models"  # converted once for all
    env = _environment(home=home, models=models, decode_processes=1, api_port=0, api_requests_per_minute=0)
    users = tuple(NAMES.values())
    with stack.open(home):
        Site(url="", env=env, users=users).run("tag", _photos(home / "photos"), "--user-from", "{user}/{photo}")
        with subprocess.Popen([*COMMAND, "api", "--json"], env=env, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            yield Site(url=json.loads(server.stdout.readline())["api"], env=env, users=users)
            server.terminate()


def _environment(**settings: object) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    named = {PREFIX + name.upper(): str(value) for name, value in settings.items()}
    return {**kept, "PYTHONPATH": str(REPOSITORY), **named}


def _photos(folder: Path) -> Path:
    """The samples, a folder for each user; no two of one month."""
    first = datetime(2024, 1, 15, 12, tzinfo=UTC)
    for month, picture in zip(itertools.cycle(range(18)), samples.bundled(), strict=False):
        path = folder / NAMES[picture.user] / picture.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.path.read_bytes())
        taken = (first + timedelta(days=30.4 * month)).timestamp()
        os.utime(path, (taken, taken))
    return folder


# ---- the browser


@pytest.fixture(scope="session")
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
    """`open_page(path, size=DESKTOP, theme="light", script=True, motion=False) -> Page`, loaded and quiet."""
    complaints: list[str] = []
    contexts = []

    def opened(
        path: str,
        size: tuple[int, int] = DESKTOP,
        theme: str = "light",
        *,
        script: bool = True,
        motion: bool = False,
    ) -> Page:
        context = chromium.new_context(
            base_url=site.url,
            viewport={"width": size[0], "height": size[1]},
            color_scheme=theme,  # type: ignore[arg-type]
            reduced_motion="no-preference" if motion else "reduce",
            java_script_enabled=script,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(1000 * PAGE_SECONDS)
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
        page.goto(path, wait_until="networkidle")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def violations() -> Callable[[Page], list[str]]:
    """What axe finds wrong with a page."""
    axe = Axe()

    def found(page: Page) -> list[str]:
        broken = axe.run(page).response["violations"]
        return [
            f"{rule['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for rule in broken
            for node in rule["nodes"]
        ]

    return found
