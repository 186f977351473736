"""The questions that the README asks in SQL have the answers that it promises."""

import re
from pathlib import Path

import pytest
from ledger_helpers import ref
from sqlalchemy import text

from pipeline.store.roles import Role
from pipeline.store.session import Database

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
QUESTIONS = re.search(r"```sql\n(.*?)```", README, re.DOTALL)[1].strip().removesuffix(";").split(";\n")


@pytest.fixture
def answers(ledger):
    """By question, the rows: ann has two photos of a dog."""
    ledger.tag_all(ledger.list([ref("ann/1.jpg"), ref("ann/2.jpg")]), "dog")
    url = ledger.database.engine.url.render_as_string(hide_password=False)
    with Database(url, "an analyst", role=Role.ANALYST) as database, database.transaction() as connection:
        return [connection.execute(text(question)).all() for question in QUESTIONS]


def test_the_questions_are_answered(answers):
    categories, dogs = answers
    assert ("dog", 2) in [(row.name, row.photos) for row in categories]
    assert [str(row.probability) for row in dogs] == ["0.9000", "0.9000"]
