"""From what the user typed to a source."""

from pathlib import Path

from pipeline.address import parse_uri
from pipeline.errors import SourceError
from pipeline.sources.allowed import ANYWHERE, Allowed
from pipeline.sources.events import Entries, Events
from pipeline.sources.folder import Folder
from pipeline.sources.inventory import Inventory
from pipeline.sources.manifest import Manifest
from pipeline.sources.s3 import S3Access, S3Prefix
from pipeline.sources.source import Source
from pipeline.sources.table import Table
from pipeline.sources.user_rule import UserRule

MANIFEST_ENDINGS = (".jsonl", ".ndjson", ".manifest")
TABLE_ENDING = ".csv"
INVENTORY_NAME = "manifest.json"

_FILES = f"a manifest ({', '.join(MANIFEST_ENDINGS)}), a table ({TABLE_ENDING}) or an inventory's {INVENTORY_NAME}"


def kind_of(source: str) -> tuple[str, str]:
    """("s3" | "folder" | "manifest" | "csv" | "inventory", the source in absolute form) of what was typed.

    What names no such file is a prefix or a folder; with a final slash it always is.

    Raises:
        SourceError: it is none of them.
    """
    if not source.strip():  # a shell's unset variable: its path would be the folder that one happens to stand in
        raise SourceError(f"SOURCE is empty; name s3://bucket/prefix, a folder (here: .), or {_FILES}.")
    if source.startswith("s3://"):
        bucket, key = parse_uri(source)
        return _kind_of_file(key.rpartition("/")[2]) or "s3", f"s3://{bucket}/{key}"
    if "://" in source:
        raise SourceError(f"{source!r} is not supported; SOURCE is s3://bucket/prefix, a folder, or {_FILES}.")
    path = Path(source).expanduser()
    if path.is_dir():
        return "folder", str(path.resolve())
    kind = _kind_of_file(path.name)
    if path.is_file() and kind is not None:
        return kind, str(path.resolve())
    if path.is_file():
        raise SourceError(f"{source} is a file, and by its name neither {_FILES}.")
    raise SourceError(f"There is no folder or manifest {source!r}; check the path, or write s3://bucket/prefix.")


def _kind_of_file(name: str) -> str | None:
    """What the file is by its name, which must have something before the ending."""
    if name == INVENTORY_NAME:
        return "inventory"
    if name.endswith(TABLE_ENDING):
        return "csv"
    return "manifest" if name.endswith(MANIFEST_ENDINGS) else None


def open_source(
    kind: str,
    source: str,
    rule: UserRule,
    access: S3Access,
    allowed: Allowed = ANYWHERE,
    entries: Entries | None = None,
) -> Source:
    """The source that a job names; `entries` are those of the ledger, for a job of kind ``events``.

    Raises:
        SourceError: it lies outside of the places that may be read, or is nothing that we could have named.
    """
    if kind == "events" and entries is not None:
        return Events(entries, rule, access, allowed)
    allowed.check_source(kind, source)
    if kind == "s3":
        return S3Prefix(source, rule, access)
    if kind == "folder":
        return Folder(source, rule)
    if kind == "inventory":
        return Inventory(source, rule, access, allowed)
    if kind in ("manifest", "csv"):
        return (Manifest if kind == "manifest" else Table)(source, rule, access, allowed)
    raise SourceError(f"{kind!r} is no kind of source.")
