"""Names that anybody may have written: each has one address and one look."""

from urllib.parse import unquote

from hypothesis import example, given
from hypothesis import strategies as st

from api.names import LONGEST_SHOWN, brief, encoded, named, seen


@given(st.text(min_size=1))
@example(".")
@example("..")
@example("~.")
@example("~~..")
@example("~")
def test_a_name_comes_back_from_its_address(name: str) -> None:
    assert named(unquote(encoded(name))) == name


def test_no_address_is_a_step_in_folders() -> None:
    assert [encoded(name) for name in (".", "..", "~.", "...", "a/b")] == ["~.", "~..", "~~.", "...", "a%2Fb"]


def test_a_name_may_also_stand_for_itself() -> None:
    assert (named(".."), named("~"), named("~a")) == ("..", "~", "~a")


def test_what_is_unseen_is_shown() -> None:
    assert seen("a\u202eb\nc\x00") == r"a\u202eb\nc\x00"
    assert seen("👩‍👧 é") == "👩‍👧 é"
    assert seen("  ") == "“  ”"


def test_a_very_long_name_keeps_its_ends() -> None:
    shown = brief("first" + "x" * 1000 + "last")
    assert len(shown) == LONGEST_SHOWN
    assert shown.startswith("first")
    assert shown.endswith("last")
    assert brief("short") == "short"
