"""Templates to HTML. Everything is escaped; a missing value is an error; no style or script stands in the page."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.treemap import percent, photos

HERE = Path(__file__).parent
STATIC = HERE / "static"


def page(template: str, **values: object) -> str:
    """The page of that template."""
    return _TEMPLATES.get_template(template).render(**values)


def _when(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%-d %b %Y}"


def _minute(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
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
    # A new style sheet has a new address, so that browsers may keep the old one for ever.
    made.globals["style_version"] = hashlib.sha256((STATIC / "style.css").read_bytes()).hexdigest()[:12]
    return made


_TEMPLATES = _environment()
