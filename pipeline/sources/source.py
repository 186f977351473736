"""What every source can do, and what they share."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Protocol

from pipeline.plain import visible
from pipeline.records import Code, Page, Refusal


class Order(StrEnum):
    """How a place sorts its keys."""

    BYTES = "bytes"  # by the bytes of their UTF-8, as S3 does
    TREE = "tree"  # folder by folder, as file systems do: "/" comes before every other character


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Keys of one bucket, after `after` and up to `upto` in all of `orders`; each that exists was listed.

    More than one order: we do not know which is the place's own, so only what lies between in both is accounted for.
    None: nothing is.
    """

    bucket: str
    after: str
    upto: str
    orders: frozenset[Order] = frozenset({Order.BYTES})


class Source(Protocol):
    """A place that holds photos, listed in order and in steps that can be repeated from any cursor."""

    def check(self, *, may_be_empty: bool = False) -> None:
        """Raise SourceError if this place cannot be listed, or is empty and must not be.

        An empty place is most often a slip; one that was emptied on purpose must be listed to be subtracted.
        """

    def page(self, cursor: str | None, limit: int) -> Page:
        """The next at most `limit` entries after `cursor` (None: from the beginning)."""

    def covered(self, cursor: str | None, page: Page) -> Interval | None:
        """The stretch of keys that the page just read accounts for; None where a gap does not mean "gone"."""


MOST_NAME_BYTES = 2048  # of a key or a user; an index of Postgres takes up to 2,704, and S3's keys have at most 1,024

MOST_SHOWN = 200  # characters of a name, in a sentence


def storable(key: str) -> bool:
    """Whether Postgres can hold and index this name: valid Unicode, no NUL, not too long."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return False
    return "\0" not in key and size <= MOST_NAME_BYTES


def shown(name: str) -> str:
    """A name that anybody may have written, for a sentence: short, and with escapes for what is not to be seen."""
    return visible(name if len(name) <= MOST_SHOWN else name[:MOST_SHOWN] + "...")


def bad_key(key: str) -> Refusal:
    """Refuse a name that cannot be stored; shown with escapes."""
    escaped = key.encode("unicode_escape", "surrogatepass").decode()
    reason = f"its name is not valid UTF-8, holds a NUL, or has more than {MOST_NAME_BYTES:,} bytes; rename it."
    return Refusal(name=escaped, code=Code.BAD_KEY, reason=reason)


def address(bucket: str, key: str) -> str:
    """Where a photo is: s3://bucket/key, or file:///path."""
    return f"{bucket}{key}" if bucket.endswith("://") else f"{bucket}/{key}"


def no_user(bucket: str, key: str, template: str) -> Refusal:
    """Refuse a key that the user rule does not match."""
    reason = f"does not match --user-from {template!r}."
    return Refusal(name=key, code=Code.NO_USER, reason=reason, uri=address(bucket, key))


def orders_of(keys: Sequence[str]) -> frozenset[Order]:
    """The orders in which `keys` ascend: one page tells what its server does, or at least what it may do."""
    return frozenset(order for order in Order if all(_rank(a, order) <= _rank(b, order) for a, b in pairwise(keys)))


def _rank(key: str, order: Order) -> bytes:
    return (key.replace("/", "\1") if order is Order.TREE else key).encode(errors="surrogatepass")


def after_prefix(prefix: str) -> str:
    """The smallest string above every string that starts with `prefix`, bytewise in UTF-8."""
    return prefix + "\U0010ffff"
