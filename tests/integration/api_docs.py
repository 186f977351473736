"""What docs/api.md shows, run; `python -m tests.integration.api_docs` writes the answers into the page.

A shown JSON answer holds what matters of the real one: objects may have fewer fields, and a list that ends with "..."
may be the beginning. An answer of {} is to be written anew; what is beside the point is then taken out by hand.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pictograph import stack
from pictograph.stack.attach import wait_until_stopped
from workers.decode.pool import DecodePool

sys.path.insert(0, str(Path(__file__).parent))  # as pytest has it: helpers import one another by name
from api_site import api_site

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
BLOCK = re.compile(
    r"```(?P<language>sh|python)\n(?P<code>.*?)```\n(?:\n```(?P<kind>json|)\n(?P<shown>.*?)```\n)?", re.DOTALL
)
MORE = "..."
PATIENCE_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Example:
    """A command or a program of the page, and the answer below it."""

    title: str
    language: str
    code: str
    kind: str  # of the answer: json, or "" for text
    shown: str


def examples(page: str) -> Iterator[Example]:
    """Every example of the page, under the heading before it."""
    for found in BLOCK.finditer(page):
        title = re.findall(r"^#+ (.*)$", page[: found.start()], re.MULTILINE)[-1]
        yield Example(title=title, **{name: text or "" for name, text in found.groupdict().items()})


def preamble(page: str) -> str:
    """What all programs begin with: the first one of the page, without what it prints."""
    first = next(each for each in examples(page) if each.language == "python")
    return "".join(line for line in first.code.splitlines(keepends=True) if not line.startswith("print("))


def answer(example: Example, page: str, env: dict[str, str]) -> str:
    """What an example prints; a RuntimeError where it fails."""
    command = ["bash", "-euo", "pipefail", "-c", example.code]
    if example.language == "python":
        command = [sys.executable, "-c", preamble(page) + example.code]
    done = subprocess.run(
        command, env=os.environ | env, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{example.code}\n{done.stdout}{done.stderr}")
    return done.stdout


def shown(example: Example, printed: str) -> str:
    """What the page shows of what an example prints, if it shows the same parts as before."""
    if example.kind != "json":
        return printed
    before, whole = json.loads(example.shown), json.loads(printed)
    return laid_out(whole if before == {} else narrowed(whole, before)) + "\n"


def narrowed(whole: Any, before: Any) -> Any:
    """Of an answer, what was shown of it before."""
    if isinstance(whole, dict) and isinstance(before, dict):
        return {name: narrowed(whole[name], part) for name, part in before.items() if name in whole}
    if isinstance(whole, list) and isinstance(before, list):
        if before[-1:] == [MORE]:
            return [*map(narrowed, whole, before[:-1]), MORE]
        return [*map(narrowed, whole, before), *whole[len(before) :]]
    return whole


def laid_out(value: Any, indent: int = 0) -> str:
    """JSON with as much on each line as it holds."""
    line = json.dumps(value, ensure_ascii=False)
    if indent + len(line) <= 118 or not isinstance(value, dict | list) or not value:
        return line
    inside = indent + 2
    if isinstance(value, dict):
        parts = [f"{json.dumps(name)}: {laid_out(each, inside + len(name) + 4)}" for name, each in value.items()]
    else:
        parts = [laid_out(each, inside) for each in value]
    inner = textwrap.indent(",\n".join(parts), "  ")
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}\n{closing}"


def rewritten(page: str, env: dict[str, str]) -> str:
    """The page with the answers that its examples give now."""
    found = iter(examples(page))

    def block(_: re.Match[str]) -> str:
        example = next(found)
        text = shown(example, answer(example, page, env))
        return f"```{example.language}\n{example.code}```\n\n```{example.kind}\n{text}```\n"

    return BLOCK.sub(block, page)


def _write(home: Path) -> None:
    with stack.open(home) as endpoints, DecodePool(1) as decoder, api_site(endpoints, decoder) as site:
        PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8"), site.environment()), encoding="utf-8")


def main() -> int:
    """Write the answers into the page."""
    with tempfile.TemporaryDirectory() as home:
        _write(Path(home))
        wait_until_stopped(Path(home))
    return 0


if __name__ == "__main__":
    sys.exit(main())
