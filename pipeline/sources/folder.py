"""Photos in a local folder, walked in the byte order of their paths, never leaving it and never through a link.

Only regular files count: symbolic links, pipes, sockets and devices are passed over with a reason. The etag of a file
is its size and modification time in nanoseconds.

Each page reads again the folders on the way to its cursor: cheap where each user has a folder of thousands, quadratic
in one flat folder (a million files in it are a thousand listings of a million names).
"""

import errno
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import PhotoChanged, PhotoGone, PhotoUnreadable, ServiceDown, SourceError
from pipeline.records import Code, Page, PhotoRef, Refusal, Version
from pipeline.sources.source import Interval, after_prefix, bad_key, no_user, storable
from pipeline.sources.user_rule import UserRule

LOCAL = "file://"


class Folder:
    """Every regular file under a folder. Keys are absolute paths without links."""

    def __init__(self, path: str, rule: UserRule) -> None:
        self.root = Path(path).resolve()
        self.prefix = str(self.root).rstrip("/") + "/"
        self.rule = rule

    def check(self, *, may_be_empty: bool = False) -> None:
        """See `Source.check`."""
        try:
            if not self.root.is_dir():
                raise SourceError(f"There is no folder {self.root}; check the path.")
            first = next(_walk(self.prefix, None), None)
        except PermissionError as exc:
            raise SourceError(f"{exc.filename} cannot be read; give this user permission to read the folder.") from exc
        if first is None and not may_be_empty:
            raise SourceError(f"The folder {self.root} is empty; put photos into it first.")

    def page(self, cursor: str | None, limit: int) -> Page:
        """See `Source.page`; the cursor is the last path that can be stored, and a page ends with one.

        Names that cannot be stored cannot be a cursor: those on the way come along, on top of `limit`.
        """
        try:
            paths = _take(_walk(self.prefix, cursor), limit)
            met = [entry for path in paths if (entry := self._meet(path)) is not None]
        except PermissionError as exc:
            raise SourceError(f"{exc.filename} cannot be read; give this user permission to read the folder.") from exc
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise SourceError(f"{exc.filename} vanished while the folder was listed; run the job again.") from exc
        except OSError as exc:
            raise ServiceDown(f"{exc.filename or self.root} cannot be listed: {exc.strerror}.") from exc
        return Page(
            refs=tuple(entry for entry in met if isinstance(entry, PhotoRef)),
            refusals=tuple(entry for entry in met if isinstance(entry, Refusal)),
            gone=(),
            cursor=next(filter(storable, reversed(paths)), cursor or self.prefix),
            last=sum(map(storable, paths)) < limit,
        )

    def covered(self, cursor: str | None, page: Page) -> Interval | None:
        """See `Source.covered`: everything between the two cursors; on the last page, to the end of the folder."""
        upto = after_prefix(self.prefix) if page.last else page.cursor
        return Interval(bucket=LOCAL, after=cursor or self.prefix, upto=upto)

    def _meet(self, path: str) -> PhotoRef | Refusal | None:
        if not storable(path):
            return bad_key(path)
        try:
            about = os.lstat(path)
        except FileNotFoundError:
            return None  # deleted while we listed: it was never there
        if not stat.S_ISREG(about.st_mode):
            reason = "is a link, pipe or device, not a file; only plain files are read."
            return Refusal(name=path, code=Code.NOT_A_PHOTO, reason=reason)
        user = self.rule.owner(path.removeprefix(self.prefix))
        if user is None:
            return no_user(path, self.rule.template)
        return PhotoRef(
            bucket=LOCAL,
            key=path,
            user=user,
            etag=_etag(about),
            size=about.st_size,
            modified_at=datetime.fromtimestamp(about.st_mtime, UTC),
        )


def _walk(prefix: str, after: str | None) -> Iterator[str]:
    """Paths of everything but folders under `prefix`, in byte order, those after `after` only."""
    with os.scandir(prefix) as found:
        entries = [(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name) for entry in found]
    for name in sorted(entries, key=os.fsencode):
        path = prefix + name
        if name.endswith("/"):
            if after is None or after.startswith(path) or os.fsencode(after) < os.fsencode(path):
                yield from _walk(path, after)
        elif after is None or os.fsencode(path) > os.fsencode(after):
            yield path


def _take(paths: Iterator[str], limit: int) -> list[str]:
    """Paths up to and with the `limit`-th that can be stored."""
    taken: list[str] = []
    for path in paths:
        taken.append(path)
        limit -= storable(path)
        if limit == 0:
            break
    return taken


def _etag(about: os.stat_result) -> str:
    return f"{about.st_size:x}-{about.st_mtime_ns:x}"


def local_version(path: str) -> Version:
    """A file as it is now; PhotoGone if it is no plain file any more."""
    try:
        about = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise PhotoGone(f"{path} is no longer there.") from exc
    except OSError as exc:
        raise ServiceDown(f"{path} cannot be read: {exc.strerror}.") from exc
    if not stat.S_ISREG(about.st_mode):
        raise PhotoGone(f"{path} is no plain file any more.")
    return Version(etag=_etag(about), size=about.st_size)


def read_local(path: str, etag: str, limit: int) -> bytes:
    """The bytes of a listed file, at most `limit`; links are not followed, pipes never opened for waiting.

    Raises:
        PhotoGone: it is no longer there, or no plain file any more, or a folder on the way has become a link.
        PhotoChanged: it is not the file that was listed.
        PhotoUnreadable: we may look at it, but not read it.
        ServiceDown: the disk fails us, or we may not even look.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise PhotoGone(f"{path} is no longer there.") from exc
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise PhotoGone(f"{path} is no plain file any more.") from exc
        if isinstance(exc, PermissionError) and os.path.lexists(path):
            reason = f"{path} may not be read by this user; give permission, and run the job again."
            raise PhotoUnreadable(reason, Code.FORBIDDEN) from exc
        raise ServiceDown(f"{path} cannot be read: {exc.strerror}.") from exc
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise PhotoGone(f"{path} is no plain file any more.")
        if os.readlink(f"/proc/self/fd/{fd}") != path:  # O_NOFOLLOW looks at the last name only
            raise PhotoGone(f"{path} is behind a link now; links are not followed.")
        if _etag(about) != etag:
            raise PhotoChanged(f"{path} was changed since it was listed.")
        with open(fd, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    except OSError as exc:
        raise ServiceDown(f"{path} cannot be read: {exc.strerror}.") from exc
    finally:
        os.close(fd)
    if len(data) != about.st_size:
        raise PhotoChanged(f"{path} changed while it was read.")
    return data
