"""What COPY reads back is what was written: the text format's own marks are escaped."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records import Code
from pipeline.store.staging import _plain

UNESCAPED = {"\\\\": "\\", "\\t": "\t", "\\n": "\n", "\\r": "\r"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, r"\N"),
        ("", ""),
        (r"\N", r"\\N"),  # the text, not NULL
        (r"\.", r"\\."),  # the text, not the end of the data
        ("a\tb\nc\rd\\", r"a\tb\nc\rd\\"),
        (7, "7"),
        (Code.TAGGED, "1"),
        (0.5, "0.5"),
        (b"\x00\xff", r"\\x00ff"),
        ((), "{}"),
        ((1, -2, 3), "{1,-2,3}"),
        ((7,), "{7}"),
        ([Code.TAGGED, 2], "{1,2}"),
        (True, "True"),
        (datetime(2020, 1, 2, tzinfo=UTC), "2020-01-02T00:00:00+00:00"),
    ],
)
def test_values(value, text):
    assert _plain(value) == text


@given(st.text())
def test_text_stays_one_field_of_one_line_and_comes_back(value):
    """Read as the manual of COPY says: split at tabs and newlines, then resolve each backslash with its successor."""
    plain = _plain(value)
    assert not set("\t\n\r") & set(plain)
    found, rest = "", plain
    while rest:
        size = 2 if rest[0] == "\\" else 1
        found += UNESCAPED.get(rest[:size], rest[:size])
        rest = rest[size:]
    assert found == value
