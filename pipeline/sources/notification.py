"""Messages of S3 about objects that came or went, as queues hand them on.

A message is what S3 sends (``{"Records": [...]}``), one such record alone, what SQS makes of it (its ``Body``), what
SNS makes of it (its ``Message``), or any of these inside of each other: as lines of JSON, as an array, or as
``aws sqs receive-message`` prints them (``{"Messages": [...]}``). What cannot be understood is named, and costs itself
alone.

Law: of two events of one key the one with the greater `sequencer` is the later: a number in hexadecimal digits, whose
strings may differ in length. Amazon says to pad the shorter one with zeros on the left and to compare them then as
strings; so all are padded to one length, and compare bytewise.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, BinaryIO
from urllib.parse import unquote_plus

from pipeline.address import parse_uri
from pipeline.errors import SourceError
from pipeline.sources.lines import START, Line, lines
from pipeline.sources.source import shown, storable

MOST_TEXT_LINES = 1_000_000  # of JSON that does not keep to one message a line
MOST_DEPTH = 8  # of messages in messages; a queue behind a topic behind a queue has four
SEQUENCER_DIGITS = 32  # Amazon's have 16 to 18

_CAME = "ObjectCreated:"
_WENT = ("ObjectRemoved:", "LifecycleExpiration:")
_CUT_OFF = "no JSON"  # stands for what cannot be read: a text that is a message itself must be JSON
_HEX = re.compile(r"[0-9A-F]+")
_NOT_BLANK = re.compile(r"\S")


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectEvent:
    """Something happened to an object."""

    bucket: str  # without "s3://"
    key: str
    sequencer: str  # of `SEQUENCER_DIGITS` digits; the greater one is the later
    deleted: bool
    version_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Unreadable:
    """A part of a message that nobody understands."""

    reason: str  # one sentence


@dataclass(frozen=True, kw_only=True, slots=True)
class Other:
    """A message that is understood, and says nothing about photos: a test, a tag, a restored copy."""


Told = ObjectEvent | Unreadable | Other


def read_messages(file: BinaryIO) -> Iterator[tuple[int, Iterator[Told]]]:
    """Each message of a text, by its number, with what it tells: one a line, or JSON values over several lines.

    Lines are read one by one; values over several lines are held together, up to `MOST_TEXT_LINES`.
    """
    found = lines(file, START)
    first = next(found, None)
    if first is None:
        return
    if first.bad is not None or _is_json(first.text):
        yield from _by_line(chain([first], found))
        return
    held = [first, *islice(found, MOST_TEXT_LINES)]
    values = _values("".join(line.text for line in held))
    if values is None:
        yield from _by_line(chain(held, found))
        return
    yield from ((number, told(value)) for number, value in enumerate(values, start=1))
    if next(found, None) is not None:
        yield len(values) + 1, iter([Unreadable(reason=f"begins after {MOST_TEXT_LINES:,} lines; give one a line.")])


def _by_line(found: Iterable[Line]) -> Iterator[tuple[int, Iterator[Told]]]:
    for line in found:
        yield line.number, iter([Unreadable(reason=line.bad)]) if line.bad is not None else _inner(line.text, 0)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _values(text: str) -> list[Any] | None:
    """The JSON values of a text, an array's elements apart, as far as they can be read; None: not even the first."""
    decoder, at, values = json.JSONDecoder(), 0, list[Any]()
    while (found := _NOT_BLANK.search(text, at)) is not None:
        try:
            value, at = decoder.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            return [*values, _CUT_OFF] if values else None
        values += value if isinstance(value, list) else [value]
    return values


def _first_words(exc: Exception) -> str:
    return str(exc).partition(":")[0]


def told(message: Any, depth: int = 0) -> Iterator[Told]:  # noqa: ANN401 - whatever JSON makes of a message
    """What a message tells, and those inside of it."""
    if depth > MOST_DEPTH:
        yield Unreadable(reason="holds messages inside of messages without end.")
    elif isinstance(message, list):
        for element in message:
            yield from told(element, depth + 1)
    elif isinstance(message, str):
        yield from _inner(message, depth)
    elif not isinstance(message, dict):
        yield Unreadable(reason="is no object of JSON.")
    elif message.get("Event") == "s3:TestEvent":
        yield Other()
    elif (inside := _inside(message)) is not None:
        yield from told(inside, depth + 1)
    elif "s3" in message:
        yield _record(message)
    else:
        yield Unreadable(reason="holds neither Records nor s3, so it is no event of S3.")


def _inside(message: dict[str, Any]) -> Any:  # noqa: ANN401 - as above
    """What a message was wrapped around."""
    for wrapped in ("Messages", "Records", "Body", "body", "Sns", "Message"):
        if wrapped in message:
            return message[wrapped]
    return None


def _inner(text: str, depth: int) -> Iterator[Told]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as exc:
        yield Unreadable(reason=f"{'is' if depth == 0 else 'wraps what is'} no JSON ({_first_words(exc)}).")
        return
    yield from told(message, depth + 1)


def _record(record: dict[str, Any]) -> Told:
    name = record.get("eventName")
    if not isinstance(name, str):
        return Unreadable(reason="has a record without an eventName.")
    name = name.removeprefix("s3:")
    if not name.startswith((_CAME, *_WENT)):
        return Other()
    try:
        return _event(record["s3"], deleted=not name.startswith(_CAME))
    except (KeyError, TypeError, AttributeError):
        return Unreadable(reason="has a record that does not name a bucket, a key and a sequencer.")
    except (ValueError, SourceError) as exc:
        return Unreadable(reason=shown(str(exc)))


def _event(facts: dict[str, Any], *, deleted: bool) -> ObjectEvent:
    about = facts["object"]
    key = unquote_plus(about["key"], errors="surrogateescape")
    bucket, _ = parse_uri(f"s3://{facts['bucket']['name']}/")
    version = about.get("versionId") or None
    for name in (key, version):
        if name is not None and not (isinstance(name, str) and name and storable(name)):
            raise ValueError(f"names an object that cannot be stored ({shown(str(name))}).")
    return ObjectEvent(
        bucket=bucket, key=key, sequencer=sequencer_of(about["sequencer"]), deleted=deleted, version_id=version
    )


def sequencer_of(text: str) -> str:
    """A sequencer in the form in which it is compared; ValueError if it is none."""
    digits = text.upper().lstrip("0")
    if not text or not _HEX.fullmatch(digits or "0") or len(digits) > SEQUENCER_DIGITS:
        raise ValueError(f"has a sequencer that is no hexadecimal number ({shown(text)}).")
    return digits.zfill(SEQUENCER_DIGITS)
