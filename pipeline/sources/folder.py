"""Photos in a local folder, walked in the byte order of their paths, never leaving it and never through a link.

Only regular files count: symbolic links, pipes, sockets and devices are passed over with a reason. The etag of a file
is its size and modification time in nanoseconds.

Whoever may write into the folder may put a link where a file or a folder was, between any two of our steps. So nothing
is judged by its name: a folder is listed and a file is read through a descriptor, opened without following a link and
without waiting, of which the kernel says where it is (`open_plain`, `_open_folder`). What the kernel itself shows as
files (`/proc`, `/sys`, `/dev`) is no place for photos.

A page goes on where the one before it ended, with the names of the folders on the way that were read by then; only who
begins anew from a cursor (each task does, after fifty pages) reads those folders again. So what is put into a folder
after it was read is met by the next listing.
"""

import errno
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import PhotoChanged, PhotoGone, PhotoUnreadable, ServiceDown, SourceError
from pipeline.records import Code, Page, PhotoRef, Refusal, Version
from pipeline.sources.allowed import LOCAL
from pipeline.sources.source import Interval, address, after_prefix, bad_key, no_user, storable
from pipeline.sources.user_rule import UserRule

_KERNEL = tuple(Path(path) for path in ("/proc", "/sys", "/dev"))
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder like others, though it lies there

_NO_LINK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Folder:
    """Every regular file under a folder. Keys are absolute paths without links."""

    def __init__(self, path: str, rule: UserRule) -> None:
        self.root = Path(path).resolve()
        _check_place(Path(path), self.root)
        self.prefix = str(self.root).rstrip("/") + "/"
        self.rule = rule
        self._walking: tuple[str, Iterator[str]] | None = None  # what comes after a cursor

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
            walking = self._after(cursor)
            paths = _take(walking, limit)
            met = [entry for path in paths if (entry := self._meet(path)) is not None]
        except PermissionError as exc:
            raise SourceError(f"{exc.filename} cannot be read; give this user permission to read the folder.") from exc
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise SourceError(f"{exc.filename} vanished while the folder was listed; run the job again.") from exc
        except OSError as exc:
            raise ServiceDown(f"{exc.filename or self.root} cannot be listed: {exc.strerror}.") from exc
        end = next(filter(storable, reversed(paths)), cursor or self.prefix)
        self._walking = end, walking
        return Page(
            refs=tuple(entry for entry in met if isinstance(entry, PhotoRef)),
            refusals=tuple(entry for entry in met if isinstance(entry, Refusal)),
            gone=(),
            cursor=end,
            last=sum(map(storable, paths)) < limit,
        )

    def _after(self, cursor: str | None) -> Iterator[str]:
        """Paths after a cursor; those that follow the last page need no folder to be read again."""
        walking, self._walking = self._walking, None
        return walking[1] if walking is not None and walking[0] == cursor else _walk(self.prefix, cursor)

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
            return Refusal(name=path, code=Code.NOT_A_PHOTO, reason=reason, uri=address(LOCAL, path))
        user = self.rule.owner(path.removeprefix(self.prefix))
        if user is None:
            return no_user(LOCAL, path, self.rule.template)
        return PhotoRef(
            bucket=LOCAL,
            key=path,
            user=user,
            etag=_etag(about),
            size=about.st_size,
            modified_at=datetime.fromtimestamp(about.st_mtime, UTC),
        )


def _check_place(path: Path, root: Path) -> None:
    """SourceError for a folder that is the kernel's, or that is not where its path says."""
    if path != root:
        raise SourceError(f"{path} leads to {root}; name that folder.")
    if any(root.is_relative_to(place) for place in _KERNEL) and not root.is_relative_to(_MEMORY):
        raise SourceError(f"{root} holds no photos, but what the kernel shows; name another folder.")


def _walk(prefix: str, after: str | None) -> Iterator[str]:
    """Paths of everything but folders under `prefix`, in byte order, those after `after` only."""
    folder = _open_folder(prefix)
    try:
        with os.scandir(folder) as found:
            entries = [(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name) for entry in found]
    finally:
        os.close(folder)
    for name in sorted(entries, key=os.fsencode):
        path = prefix + name
        if name.endswith("/"):
            if after is None or after.startswith(path) or os.fsencode(after) < os.fsencode(path):
                yield from _walk(path, after)
        elif after is None or os.fsencode(path) > os.fsencode(after):
            yield path


def _open_folder(prefix: str) -> int:
    """A descriptor of the folder with this path; NotADirectoryError if there is a link on the way to it."""
    path = prefix.rstrip("/") or "/"
    fd = os.open(path, _NO_LINK | os.O_DIRECTORY)
    if _place_of(fd) != path:
        os.close(fd)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
    return fd


def open_plain(path: str) -> int | None:
    """A descriptor of the plain file with this path; None if it is something else, or there is a link on the way to it.

    Never waits for the other end of a pipe. Raises OSError.
    """
    try:
        fd = os.open(path, _NO_LINK)
    except OSError as exc:
        if exc.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket, or a device that is not there
            return None
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode) and _place_of(fd) == path:  # O_NOFOLLOW looks at the last name only
        return fd
    os.close(fd)
    return None


def _place_of(fd: int) -> str:
    return os.readlink(f"/proc/self/fd/{fd}")


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
        PhotoUnreadable: we may look at it, but not read it; or it is larger than `limit`.
        ServiceDown: the disk fails us, or we may not even look.
    """
    fd = _open_listed(path)
    try:
        size = _size_of_listed(fd, path, etag)
        if size > limit:
            raise PhotoUnreadable(f"The photo has {size:,} bytes; at most {limit:,} are read.", Code.TOO_LARGE)
        with open(fd, "rb", closefd=False) as file:
            data = file.read(size + 1) if size else b""
    except OSError as exc:
        raise ServiceDown(f"{path} cannot be read: {exc.strerror}.") from exc
    finally:
        os.close(fd)
    if len(data) != size:
        raise PhotoChanged(f"{path} changed while it was read.")
    return data


def _open_listed(path: str) -> int:
    try:
        fd = open_plain(path)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise PhotoGone(f"{path} is no longer there.") from exc
    except OSError as exc:
        if isinstance(exc, PermissionError) and os.path.lexists(path):
            reason = f"{path} may not be read by this user; give permission, and run the job again."
            raise PhotoUnreadable(reason, Code.FORBIDDEN) from exc
        raise ServiceDown(f"{path} cannot be read: {exc.strerror}.") from exc
    if fd is None:
        raise PhotoGone(f"{path} is no plain file any more, or is behind a link now; links are not followed.")
    return fd


def _size_of_listed(fd: int, path: str, etag: str) -> int:
    """Bytes of the open file; PhotoChanged if it is not the one that was listed."""
    about = os.fstat(fd)
    if _etag(about) != etag:
        raise PhotoChanged(f"{path} was changed since it was listed.")
    return about.st_size
