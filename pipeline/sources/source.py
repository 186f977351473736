"""What every source can do, and what they share."""

from dataclasses import dataclass
from typing import Protocol

from pipeline.records import Code, Page, Refusal


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Keys of one bucket, after `after` and up to `upto`, bytewise; every key in it that exists was listed."""

    bucket: str
    after: str
    upto: str


class Source(Protocol):
    """A place that holds photos, listed in order and in steps that can be repeated from any cursor."""

    def check(self) -> None:
        """Raise SourceError if this place cannot be listed, or is empty."""

    def page(self, cursor: str | None, limit: int) -> Page:
        """The next at most `limit` entries after `cursor` (None: from the beginning)."""

    def covered(self, cursor: str | None, page: Page) -> Interval | None:
        """The stretch of keys that the page just read accounts for; None where a gap does not mean "gone"."""


def storable(key: str) -> bool:
    """Whether Postgres can hold this name: valid Unicode, no NUL."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in key


def bad_key(key: str) -> Refusal:
    """Refuse a name that cannot be stored; shown with escapes."""
    shown = key.encode("unicode_escape", "surrogatepass").decode()
    return Refusal(name=shown, code=Code.BAD_KEY, reason="its name is not valid UTF-8 or holds a NUL; rename it.")


def no_user(key: str, template: str) -> Refusal:
    """Refuse a key that the user rule does not match."""
    return Refusal(name=key, code=Code.NO_USER, reason=f"does not match --user-from {template!r}.")


def after_prefix(prefix: str) -> str:
    """The smallest string above every string that starts with `prefix`, bytewise in UTF-8."""
    return prefix + "\U0010ffff"
