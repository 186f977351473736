"""The examples of docs/api.md have the answers that it shows; `python -m tests.integration.api_docs` writes them."""

import re
import shutil
from collections.abc import Iterator

import pytest

from api.app import create_app
from pictograph.stack import Endpoints
from pipeline.settings import Settings
from tests.integration.api_docs import PAGE, Example, answer, api_site, examples, shown
from workers.decode.pool import DecodePool

TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = list(examples(TEXT))


@pytest.fixture(scope="module")
def env(endpoints: Endpoints, decoder: DecodePool) -> Iterator[dict[str, str]]:
    """The page from its top on: what one example changes, the next ones find changed."""
    with api_site(endpoints, decoder) as site:
        yield site.environment()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.title}-{example.language}")
def test_the_shown_answer_is_the_answer(example: Example, env: dict[str, str]) -> None:
    if example.language == "sh" and shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    assert example.shown, "no answer is shown; run `python -m tests.integration.api_docs`"
    assert shown(example, answer(example, TEXT, env)) == example.shown


def test_every_code_block_is_run() -> None:
    """What says how to make keys is for people: keys are shown once, and differ."""
    blocks = re.findall(r"^```(\w+)$", TEXT, re.MULTILINE)
    assert blocks.count("sh") + blocks.count("python") == len(EXAMPLES) >= 20
    assert blocks.count("json") == sum(example.kind == "json" for example in EXAMPLES)


def test_the_page_speaks_of_operations_that_there_are() -> None:
    document = create_app(Settings(), None, None, None).openapi()  # type: ignore[arg-type] - none of them is asked
    routes = [re.sub(r"\\\{\w+\\\}", ".+", re.escape(path)) for path in document["paths"]]
    named = {found.split("?")[0] for found in re.findall(r"/v1/[\w/:{}.\[\]'-]+", TEXT)} - {"/v1/openapi.json"}
    assert len(named) > 20
    assert [path for path in sorted(named) if not any(re.fullmatch(route, path) for route in routes)] == []
