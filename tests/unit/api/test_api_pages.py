from http import HTTPStatus
from xml.etree import ElementTree

import pytest

from api.errors import Problem
from api.pages.render import STATIC, page
from pipeline.store.queries import UserSummary


def test_names_are_text_in_pages_and_encoded_in_links() -> None:
    shown = page("people.html", users=[UserSummary(name='<b>"a/b"', photos=1)], after="", following='x"&y')
    assert "<b>" not in shown
    assert 'href="/u/%3Cb%3E%22a%2Fb%22"' in shown
    assert 'href="/people?after=x%22%26y"' in shown
    assert "1 photo<" in shown


def test_problems_are_text_too() -> None:
    problem = Problem(HTTPStatus.NOT_FOUND, "not_found", "There is no user '<script>'.")
    shown = page("error.html", problem=problem, request_id="abc")
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.parametrize("users", [[], [UserSummary(name="ada", photos=0)]])
def test_pages_need_no_inline_style_or_script(users: list[UserSummary]) -> None:
    shown = page("people.html", users=users, after="", following=None)
    assert not any(forbidden in shown for forbidden in ("<style", "style=", "<script>", "http://", "https://"))


def test_the_icon_is_well_formed() -> None:
    ElementTree.parse(STATIC / "icon.svg")
