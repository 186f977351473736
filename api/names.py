"""Names of users, files and places, which anybody may have written: in addresses, and before people's eyes."""

import re
from urllib.parse import quote

from pipeline.plain import visible

JOINERS = "\u200c\u200d"  # between letters, and between the parts of one emoji: unseen, and part of how it looks
LONGEST_SHOWN = 60  # characters of a name among other things
END_SHOWN = 11  # of a longer one, of its last characters

#: Browsers take a segment of one or two dots for a step in folders, however it is encoded, and never ask for it. So
#: such a name has a tilde in front of it in a path, and a name that looks like that has one more.
_DOTS = re.compile(r"~*\.\.?")


def encoded(name: str) -> str:
    """A name as one segment of a path."""
    return quote(in_path(name), safe="")


def in_path(name: str) -> str:
    """A name as a path has it, before it is encoded."""
    return f"~{name}" if _DOTS.fullmatch(name) else name


def named(segment: str) -> str:
    """The name that a decoded segment of a path stands for; one of one or two dots may also stand for itself."""
    return segment[1:] if segment.startswith("~") and _DOTS.fullmatch(segment) else segment


def seen(name: str) -> str:
    """A name so that people see all of it: in one line, and nothing in it unseen.

    What does not print is shown by its escape, but for what joins the parts of emoji and of letters.
    """
    shown = "".join(c if c in JOINERS else visible(c) for c in name)
    return shown if shown.strip() else f"“{shown}”"


def brief(name: str) -> str:
    """The same for where there is little room: what is left out of a very long name lies in its middle."""
    shown = seen(name)
    if len(shown) <= LONGEST_SHOWN:
        return shown
    return f"{shown[: LONGEST_SHOWN - END_SHOWN - 1]}…{shown[-END_SHOWN:]}"
