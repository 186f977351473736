"""Templates to HTML. Everything is escaped; a missing value is an error; no style or script stands in the page."""

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from api.names import brief, encoded, seen
from pipeline.treemap import percent, photos

HERE = Path(__file__).parent
STATIC = HERE / "static"
TEMPLATES = HERE / "templates"


def page(template: str, **values: object) -> str:
    """The page of that template."""
    return _TEMPLATES.get_template(template).render(**values)


def compile_all() -> None:
    """Compile every template now, and so none while somebody waits."""
    for name in _TEMPLATES.list_templates():
        _TEMPLATES.get_template(name)


@cache
def static(name: str) -> str:
    """The address of a file of ours: new contents have a new one, so that browsers may keep the old for ever."""
    return f"/static/{name}?v={hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


def _when(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%-d %b %Y}"


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _duration(seconds: float) -> str:
    """200 → "3 min 20 s": two units at most."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    unit, small, size = ("min", "s", 60) if whole < 3600 else ("h", "min", 3600)
    rest = whole % size // (size // 60)
    return f"{whole // size} {unit}" + (f" {rest} {small}" if rest else "")


def _counted(count: int, unit: str) -> str:
    """A number of photos or moments, in words."""
    return f"{count:,} {unit.removesuffix('s') if count == 1 else unit}"


def _share(share: float) -> str:
    """A share of 0 to 1 in per cent; one that is there and very small is not nought."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def _points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "\N{MINUS SIGN}")


def _spoken(sentence: str) -> Markup:
    """A sentence in which commands stand between backticks."""
    parts = sentence.split("`")
    if len(parts) % 2 == 0:  # one is not closed: it is somebody's own word
        return escape(sentence)
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "segment": encoded,
        "quoted": lambda value: quote(value, safe=""),
        "seen": seen,
        "brief": brief,
        "photos": photos,
        "counted": _counted,
        "percent": percent,
        "share": _share,
        "points": _points,
        "when": _when,
        "minute": _minute,
        "number": "{:,}".format,
        "duration": _duration,
        "words": lambda name: name.replace("_", " "),
        "spoken": _spoken,
    }
    made.globals["static"] = static
    return made


def _edition() -> str:
    files = sorted((*STATIC.iterdir(), *TEMPLATES.iterdir()))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


_TEMPLATES = _environment()

#: What all pages are made of; part of a page's ETag, since another release draws the same photos otherwise.
PAGES = _edition()
