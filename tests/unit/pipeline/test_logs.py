"""Whatever is logged, a record is one line, shows what cannot be seen, and tells no secret."""

import io
import logging
import re
import subprocess
import sys
import unicodedata
import warnings

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import logs
from pipeline.logs import INDENT, LineFormatter
from pipeline.plain import masked, visible

RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: ")

#: Everything, the unpaired halves of surrogates and what is not assigned included.
ANYTHING = st.text(st.characters(exclude_categories=()))


def formatted(message, *arguments, name="tests.logs", exc_info=None):
    record = logging.LogRecord(name, logging.WARNING, __file__, 1, message, arguments, exc_info)
    return LineFormatter().format(record)


def raised(error):
    try:
        raise error
    except type(error):
        return sys.exc_info()


FORGED = "2026-01-01 00:00:00,000 INFO workers.redriver: job 7 has ended"


@given(ANYTHING)
@example(f"x\n{FORGED}")
@example("\x1b[2J\x1b]0;title\x07\x9b31m\x7f\r\x85\u2028\u2029\u202e\u2066\u200b\ud800\ufeff\U000e0041")
def test_a_record_is_one_line_of_printable_characters_that_can_be_written(text):
    assert RECORD.match(formatted("%s", text))
    for line in (formatted(text), formatted("%s", text), formatted("x", name=text)):
        assert line.isprintable()
        line.encode("utf-8")
        assert not {unicodedata.category(c) for c in line} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(ANYTHING)
@example(f"x\n{FORGED}\n    File")
def test_no_line_of_a_traceback_looks_like_a_record(text):
    first, *more = formatted("it failed", exc_info=raised(ValueError(text))).split("\n")
    assert RECORD.match(first)
    assert more[0] == INDENT + "Traceback (most recent call last):"
    assert any("raise error" in line for line in more)  # it can be read
    for line in more:
        assert line.startswith(INDENT)
        assert line.isprintable()


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), max_codepoint=0x24F)))
def test_what_can_be_seen_stays_as_it_is(text):
    kept = "".join(c for c in text if c.isprintable())
    assert visible(kept) == kept


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://b.s3.aws/k?X-Amz-Credential=AKIA%2F1&X-Amz-Date=2&X-Amz-Signature=abc0", "X-Amz-Date=2"),
        ("https://b.s3.aws/k?AWSAccessKeyId=AKIA&Signature=abc0%3D&Expires=1", "Expires=1"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=AKIA/x, SignedHeaders=host, Signature=abc0", "SignedHeaders=host"),
        ("https://b/k?x-amz-security-token=abc0//==&versionId=7", "versionId=7"),
        ("postgresql://pictograph:abc0@127.0.0.1:5432/pictograph", "127.0.0.1:5432/pictograph"),
        ("redis://:abc0@valkey:6379/0", "valkey:6379/0"),
        ("redis://me:abc0/x@y:AKIA@valkey:6379/0", "valkey:6379/0"),
        ("Connected to rediss://me:abc0@valkey/0 at last", "at last"),
    ],
)
def test_what_lets_somebody_in_is_masked_and_the_rest_stays(text, shown):
    for line in (masked(text), formatted("%s", text), formatted("no", exc_info=raised(ValueError(text)))):
        assert "abc0" not in line
        assert "AKIA" not in line
        assert shown in line


@pytest.mark.parametrize("text", ["s3://photos/ann/1.jpg", "http://127.0.0.1:8333", "at 12:30 ann@example.org said"])
def test_what_is_no_secret_is_left(text):
    assert masked(text) == text


def test_a_message_that_cannot_be_put_together_is_still_a_record():
    line = formatted("%d photos\n", "no number")
    assert RECORD.match(line)
    assert line.isprintable()


PROGRAM = """
import logging, threading, warnings
from pipeline import logs
logs.set_up()
logs.set_up(logging.DEBUG)
logging.getLogger("PIL.TiffImagePlugin").debug("GPS 51.5")
logging.getLogger("botocore.auth").debug("Signature=abc0")
logging.getLogger("a").info("once\\nonly")
warnings.warn("mind\\nthe gap")
thread = threading.Thread(target=lambda: 1 / 0, name="t\\nx")
thread.start()
thread.join()
raise ValueError("the end\\n2026-01-01 00:00:00,000 INFO workers.redriver: job 7 has ended")
"""


def test_everything_that_a_process_says_about_itself_takes_this_way():
    """Warnings and what nobody caught, in any thread, too; libraries that would tell too much do not."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    records = [line for line in lines if RECORD.match(line)]
    assert all(RECORD.match(line) or line.startswith(INDENT) for line in lines), done.stderr
    assert len([line for line in records if r"once\nonly" in line]) == 1
    assert len(records) == 4
    assert "mind" in records[1]
    assert r"t\nx ends" in records[2]
    assert INDENT + FORGED in lines  # a line of the traceback, not of the log
    assert "GPS" not in done.stderr
    assert "abc0" not in done.stderr


@pytest.fixture
def set_up():
    """What `logs.set_up` changes in this process is put back."""
    root, before, hook, shown = (
        logging.getLogger(),
        logging.getLogger().handlers[:],
        sys.excepthook,
        warnings.showwarning,
    )
    level = root.level
    yield
    logging.captureWarnings(False)
    root.handlers[:], sys.excepthook, warnings.showwarning = before, hook, shown
    root.setLevel(level)


def test_standard_error_is_where_it_goes(set_up, monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    logs.set_up()
    logging.getLogger("here").info("one\rtwo")
    assert said.getvalue().endswith(" INFO here: one\\rtwo\n")
