"""Text that came from anywhere, made safe to show: in a terminal, a log, or somebody's page.

Names of files, messages of servers and words in photos may hold what moves a cursor, turns the direction of reading,
forges a line, or cannot be written at all. All of that is shown as an escape.
"""

import re

_SECRET_FIELD = re.compile(
    r"(?i)\b(x-amz-(?:signature|credential|security-token)|signature|credential|awsaccesskeyid)=[^&\s\"'<>,;)]+"
)
_PASSWORD = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@]*):\S*@")

MASK = "***"


def visible(text: str) -> str:
    """The text in one line: every character that is not printable is written as an escape.

    That is all of C0 and C1, line ends of all kinds, marks of direction, lone surrogates, and what Unicode has not
    assigned.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def masked(text: str) -> str:
    """Without the words that let somebody in: what signs a presigned URL, and passwords in URLs."""
    return _PASSWORD.sub(rf"\1:{MASK}@", _SECRET_FIELD.sub(rf"\1={MASK}", text))
