"""How every long-running process logs: to standard error, one line per record.

    2026-11-20 12:24:29,180 INFO workers.redriver: job 7 has ended

A record begins at the start of a line, with a date; what belongs to it (a traceback) is indented by four blanks. So
nothing that came from outside, whatever it holds, can be taken for a record of ours.
"""

import logging
import sys
import threading
from types import TracebackType

from pipeline.plain import masked, visible

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
INDENT = "    "

#: These tell more than is anybody's business when they are asked to: requests with their signatures, photos' EXIF.
QUIET = ("alembic", "boto3", "botocore", "s3transfer", "urllib3", "PIL")

log = logging.getLogger("pictograph")


class LineFormatter(logging.Formatter):
    """Formats a record as its law above says."""

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def format(self, record: logging.LogRecord) -> str:
        """The record's lines, joined."""
        try:
            message = record.getMessage()
        except Exception:  # logging itself would print the arguments as they are
            message = f"a message that cannot be put together: {record.msg!r}"
        head = f"{self.formatTime(record)} {record.levelname} {record.name}: {message}"
        more = [self.formatException(record.exc_info)] if record.exc_info else []
        more += [self.formatStack(record.stack_info)] if record.stack_info else []
        lines = [line for text in more for line in text.split("\n")]
        return "\n".join([_safe(head), *(INDENT + _safe(line) for line in lines)])


def set_up(level: int = logging.INFO) -> None:
    """Log from now on as this module says; whatever was set up before is taken away. Safe to repeat."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _safe(line: str) -> str:
    return masked(visible(line))


def _uncaught(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
    log.critical("this process ends", exc_info=(kind, error, at))


def _uncaught_in_thread(about: threading.ExceptHookArgs) -> None:
    if about.exc_value is not None and not isinstance(about.exc_value, SystemExit):
        name = about.thread.name if about.thread else "a thread"
        log.critical("%s ends", name, exc_info=(about.exc_type, about.exc_value, about.exc_traceback))
