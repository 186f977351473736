"""What is printed is safe, whole, and where it belongs."""

import json
from datetime import UTC, datetime

import pytest

from pictograph.cli.console import emit, fail, note, plain, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain [bold]text[/] :smile:", "plain [bold]text[/] :smile:"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("a\rb\x07", r"a\rb\x07"),
        ("Grüße, 猫", "Grüße, 猫"),
        ("a name\nthat forges a line", r"a name\nthat forges a line"),
        ("right-to-left \u202e", r"right-to-left \u202e"),
    ],
)
def test_text_cannot_command_the_terminal(text, shown):
    assert plain(text) == shown


def test_markup_in_names_is_shown_as_it_is(capsys):
    say("s3://bucket/[red]/:cat:")
    assert capsys.readouterr().out == "s3://bucket/[red]/:cat:\n"


def test_answers_and_notes_go_different_ways(capsys):
    say("an answer")
    note("a note")
    assert capsys.readouterr() == ("an answer\n", "a note\n")


def test_a_line_for_machines_is_one_json_object(capsys):
    emit({"name": "Zoë\n", "at": datetime(2026, 1, 2, tzinfo=UTC)})
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {"name": "Zoë\n", "at": "2026-01-02 00:00:00+00:00"}


def test_an_error_ends_with_its_status(capsys):
    with pytest.raises(SystemExit) as ended:
        fail("There is no [job] 7; look again.", 2)
    assert ended.value.code == 2
    assert capsys.readouterr() == ("", "Error: There is no [job] 7; look again.\n")
