"""Templates to HTML. Everything is escaped; a missing value is an error; no style or script stands in the page."""

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.treemap import percent, photos

HERE = Path(__file__).parent
STATIC = HERE / "static"
TEMPLATES = HERE / "templates"


def page(template: str, **values: object) -> str:
    """The page of that template."""
    return _TEMPLATES.get_template(template).render(**values)


@cache
def static(name: str) -> str:
    """The address of a file of ours: new contents have a new one, so that browsers may keep the old for ever."""
    return f"/static/{name}?v={hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]}"


def _when(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%-d %b %Y}"


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "segment": lambda name: quote(name, safe=""),
        "photos": photos,
        "percent": percent,
        "when": _when,
        "minute": _minute,
        "number": "{:,}".format,
    }
    made.globals["static"] = static
    return made


def _edition() -> str:
    files = sorted((*STATIC.iterdir(), *TEMPLATES.iterdir()))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


_TEMPLATES = _environment()

#: What all pages are made of; part of a page's ETag, since another release draws the same photos otherwise.
PAGES = _edition()
