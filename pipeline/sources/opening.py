"""From what the user typed to a source."""

from pathlib import Path

from pipeline.address import parse_uri
from pipeline.errors import SourceError
from pipeline.sources.allowed import ANYWHERE, Allowed
from pipeline.sources.folder import Folder
from pipeline.sources.manifest import Manifest
from pipeline.sources.s3 import S3Access, S3Prefix
from pipeline.sources.source import Source
from pipeline.sources.user_rule import UserRule

MANIFEST_ENDINGS = (".jsonl", ".ndjson", ".manifest")


def kind_of(source: str) -> tuple[str, str]:
    """("s3" | "folder" | "manifest", the source in absolute form) of what was typed.

    Raises:
        SourceError: it is none of them.
    """
    if source.startswith("s3://"):
        bucket, prefix = parse_uri(source)
        return "s3", f"s3://{bucket}/{prefix}"
    if "://" in source:
        raise SourceError(f"{source!r} is not supported; SOURCE is s3://bucket/prefix, a folder or a .jsonl manifest.")
    path = Path(source).expanduser()
    if path.is_dir():
        return "folder", str(path.resolve())
    if path.is_file() and path.name.endswith(MANIFEST_ENDINGS):
        return "manifest", str(path.resolve())
    if path.is_file():
        raise SourceError(f"{source} is a file; a manifest's name ends in {' or '.join(MANIFEST_ENDINGS)}.")
    raise SourceError(f"There is no folder or manifest {source!r}; check the path, or write s3://bucket/prefix.")


def open_source(kind: str, source: str, rule: UserRule, access: S3Access, allowed: Allowed = ANYWHERE) -> Source:
    """The source that a job names.

    Raises:
        SourceError: it lies outside of the places that may be read, or is nothing that we could have named.
    """
    allowed.check_source(kind, source)
    if kind == "s3":
        return S3Prefix(source, rule, access)
    if kind == "folder":
        return Folder(source, rule)
    if kind == "manifest":
        return Manifest(source, rule, access, allowed)
    raise SourceError(f"{kind!r} is no kind of source.")
