"""The questions of docs/sql.md have the answers that it shows; `python -m tests.integration.sql_docs` writes them."""

import json
import os
import subprocess
import sys

import pytest

from pipeline.store.roles import Role
from pipeline.store.session import Database
from tests.integration.sql_docs import PAGE, answer, fill, questions
from tests.schema import make_empty

QUESTIONS = list(questions(PAGE.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def corpus(endpoints):
    """A ledger of its own with the page's photos; the next test of another file finds none."""
    with Database(endpoints.database_url, "docs") as database:
        make_empty(database)
        fill(database)
        yield database


@pytest.fixture(scope="module")
def analyst(corpus):
    url = corpus.engine.url.render_as_string(hide_password=False)
    with Database(url, "docs", role=Role.ANALYST) as database:
        yield database


def test_there_are_sixteen_questions():
    assert [int(question.title.split(".")[0]) for question in QUESTIONS] == list(range(1, 17))


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.title)
def test_the_shown_answer_is_the_answer(analyst, question):
    assert question.shown, "no result is shown; run `python -m tests.integration.sql_docs`"
    assert answer(analyst, question.query) == question.shown


def test_categories_with_the_same_labels_are_one_to_whoever_asks_for_either(analyst):
    def number(query):
        return int(answer(analyst, query).splitlines()[-1].strip("| "))

    vertebrates = number("SELECT photos FROM tags.category_total WHERE name = 'vertebrate'")
    assert vertebrates > 0
    assert number("SELECT count(*) FROM tags.photos_with('chordate')") == vertebrates
    assert number("SELECT count(*) FROM tags.newest_photos('chordate')") == vertebrates
    assert number("SELECT photos FROM tags.top_children('animal', 1)") == vertebrates
    below = "SELECT string_agg(name, ',') FROM tags.top_children('{}')"
    assert answer(analyst, below.format("chordate")) == answer(analyst, below.format("vertebrate"))


def test_the_corpus_is_coherent(analyst):
    assert answer(analyst, "SELECT count(*) FROM tags.incoherence").splitlines()[-1] == "| 0 |"


# ---- pictograph sql


@pytest.fixture
def ask(corpus, endpoints):
    """Runs `pictograph sql`, as people do."""

    def run(*arguments, stdin=""):
        return subprocess.run(
            [sys.executable, "-m", "pictograph", "sql", *arguments],
            env=os.environ | {"PICTOGRAPH_DATABASE_URL": endpoints.database_url},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_every_query_is_answered_and_json_is_for_one(ask):
    done = ask("-c", "SELECT 11", "-c", "SELECT 22", "--", "--csv", "--tuples-only")
    assert (done.returncode, done.stdout.split()) == (0, ["11", "22"])
    refused = ask("--json", "-c", "SELECT 11", "-c", "SELECT 22")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--json is for one query" in refused.stderr


def test_the_command_answers_as_an_analyst(ask):
    done = ask("-c", "SELECT count(*), current_user FROM photo", "--", "--csv", "--tuples-only")
    assert (done.returncode, done.stdout) == (0, "28,pictograph_analyst\n"), done.stderr
    done = ask("--json", "-c", "SELECT name, mass FROM category_total WHERE depth IS NULL OR name % 'x'")
    assert (done.returncode, done.stdout) == (2, "")
    done = ask(
        "--json",
        "-c",
        "SELECT headline, taken_at::date AS day FROM photo WHERE key LIKE 'dan/2_.jpg' ORDER BY key LIMIT 1",
    )
    assert json.loads(done.stdout) == {"headline": "pizza", "day": "2026-02-01"}


def test_the_command_takes_a_script_and_says_what_is_wrong(ask):
    done = ask(
        stdin="\\pset tuples_only on\n\\pset format unaligned\nSELECT headline FROM photo WHERE key = 'ann/02.jpg';\n"
    )
    assert "dog" in done.stdout.splitlines()
    refused = ask("-c", "DELETE FROM core.photo")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "permission denied" in refused.stderr or "read-only" in refused.stderr
    senses = ask("--json", "-c", "SELECT category_id('crane')")
    assert (senses.returncode, senses.stdout) == (2, "")
    assert "has 2 senses: n02012849 crane" in " ".join(senses.stderr.split())
    assert ask("--json").returncode == 2


def test_no_password_is_on_the_command_line(ask, endpoints):
    """psql itself tells how it was called."""
    secret = endpoints.database_url.split("@")[0].rpartition(":")[2]
    done = ask("-c", "\\! tr '\\0' ' ' < /proc/$PPID/cmdline")
    assert "psql" in done.stdout
    assert "role=pictograph_analyst" in done.stdout.replace("%3D", "=")
    assert secret not in done.stdout
