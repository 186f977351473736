"""Places where a process may be killed in the middle of something: named, so that tests can kill it exactly there.

Nothing happens at a point unless somebody has armed it; the product never does. `tests/chaos` arms them one by one,
ends the process with SIGKILL, and sees to it that nothing is lost or counted twice.
"""

from collections.abc import Callable
from enum import StrEnum

Handler = Callable[["Point"], None]


class Point(StrEnum):
    """Every place, in the order in which a photo meets them."""

    LIST_AFTER_COPY = "list.after_copy"
    LIST_BEFORE_COMMIT = "list.before_commit"
    LIST_AFTER_COMMIT = "list.after_commit"
    PUBLISH_AFTER_COMMIT = "pub.after_commit_before_send"
    PUBLISH_AFTER_SEND = "pub.after_send"
    CLAIM_AFTER_COMMIT = "claim.after_commit"
    FETCH_MID_BODY = "fetch.mid_body"
    DECODE_AFTER_SEND = "decode.after_send"
    CLASSIFY_MID_BATCH = "gpu.mid_batch"
    MERGE_AFTER_COPY = "merge.after_copy"
    MERGE_AFTER_RESULTS = "merge.after_results"
    MERGE_AFTER_TOTALS = "merge.after_totals"
    MERGE_COMMIT_SENT = "merge.commit_sent"
    MERGE_AFTER_COMMIT = "merge.after_commit_before_ack"
    ACK_AFTER = "ack.after"
    HEARTBEAT_BEFORE = "hb.before"
    REDRIVE_AFTER_UPDATE = "redrive.after_update"
    SPLIT_MID = "split.mid"
    ERASE_MID = "delete.mid"
    SCHEDULE_BEFORE_COMMIT = "schedule.before_commit"
    DELIVER_BEFORE_COMMIT = "deliver.after_send_before_commit"


_handler: Handler | None = None


def arm(handler: Handler | None) -> None:
    """From now on call `handler` at every point of this process; None: no more."""
    global _handler  # noqa: PLW0603 - one switch per process is what this is
    _handler = handler


def reached(point: Point) -> None:
    """Say that the process is here."""
    if _handler is not None:
        _handler(point)
