"""Photos with the same bytes in one stream: the first is looked at, the others become what it turns out to be.

Theory of operation
    Every photo comes by when its bytes are known (`admit`), every result before it is gathered (`settled`), and again
    when it is committed (`committed`). The first photo of a content leads: it goes on, to what the ledger knows and
    else to a decoder. Who comes while it is under way follows: the bytes are dropped, the task is kept. When the leader
    has its result, its followers have theirs. Where that says nothing of the bytes (a server was away, the model
    broke), they are fetched again and go their own ways.

Laws
1. Nobody waits: a follower is a task in a list, so a stream ends, stops and fails as if it were not there.
2. A follower gets one result, with its leader's, or is handed out once more, to go alone.
3. A content has its leader from when that is admitted until its result is committed. So it is found here or, asked for
   after that, in the ledger: one stream looks at the same bytes once. Two streams may both do so, in the same moment.
4. What is kept is of photos that are held: no more than the shards of a stream have.

Thread-safe.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from pipeline.records import SEEN, Annotation, Code, ItemState, PhotoResult, PhotoTask
from pipeline.store.contents import OF_CONTENT
from workers.engine.flow import Channel


class Way(Enum):
    """Where a photo goes from here."""

    LEADS = auto()  # to the ledger, and else to a decoder; others may follow
    FOLLOWS = auto()  # nowhere: its result comes with its leader's
    ALONE = auto()  # to a decoder: its leader was of no use


@dataclass
class _Content:
    leader: PhotoTask
    result: PhotoResult | None = None  # of the leader, until it is committed
    followers: list[PhotoTask] = field(default_factory=list)


class Twins:
    """The contents that are under way in one stream."""

    def __init__(self, tasks: Channel[PhotoTask]) -> None:
        """`tasks`: where photos are handed out."""
        self._tasks = tasks
        self._contents: dict[bytes, _Content] = {}  # by SHA-256
        self._alone: set[int] = set()  # photos that are handed out once more
        self._guard = threading.Lock()

    def admit(self, task: PhotoTask, sha256: bytes) -> Way | PhotoResult:
        """Where a photo with these bytes goes; or what it is, if that is known here."""
        with self._guard:
            if task.photo_id in self._alone:
                self._alone.remove(task.photo_id)
                return Way.ALONE
            content = self._contents.setdefault(sha256, _Content(task))
            if content.result is not None:
                return taken_over(task, content.result)
            if content.leader is task:
                return Way.LEADS
            content.followers.append(task)
            return Way.FOLLOWS

    def settled(self, results: Sequence[PhotoResult]) -> list[PhotoResult]:
        """The results, and those of the followers that come of them. Who got none is handed out once more."""
        found = list(results)
        with self._guard:
            for result in results:
                content = self._led_by(result)
                if content is None:
                    continue
                followers, content.followers = content.followers, []
                if _outcome(result) in OF_CONTENT:
                    content.result = result
                    found += [taken_over(task, result) for task in followers]
                else:
                    del self._contents[_content_of(result)]
                    self._send_off(followers)
        return found

    def committed(self, results: Iterable[PhotoResult]) -> None:
        """From now on the ledger knows what these are."""
        with self._guard:
            for result in results:
                if self._led_by(result) is not None:
                    del self._contents[_content_of(result)]

    def __len__(self) -> int:
        with self._guard:
            return sum(1 + len(content.followers) for content in self._contents.values())

    def _led_by(self, result: PhotoResult) -> _Content | None:
        content = None if result.sha256 is None else self._contents.get(result.sha256)
        return content if content is not None and content.leader is result.task else None

    def _send_off(self, followers: Iterable[PhotoTask]) -> None:
        """As long as its shard is held, somebody takes tasks; and otherwise nobody needs a result of it."""
        for task in followers:
            self._alone.add(task.photo_id)
            self._tasks.put(task)


def taken_over(task: PhotoTask, result: PhotoResult) -> PhotoResult:
    """What a photo is that has the bytes of another result."""
    return same_content(
        task,
        of=result.task.photo_id,
        outcome=_outcome(result),
        annotation=result.annotation,
        sha256=_content_of(result),
        taken_at=result.taken_at,
    )


def same_content(
    task: PhotoTask,
    *,
    of: int,
    outcome: Code,
    annotation: Annotation | None,
    sha256: bytes,
    taken_at: datetime | None,
) -> PhotoResult:
    """The result of a photo that has the bytes of photo `of`: a duplicate; a failure, as that one; what it was before.

    The state is the item's, the outcome is the photo's: so its tags count for its owner, as those of any other photo.
    """
    seen, itself = outcome in SEEN, of == task.photo_id
    return PhotoResult(
        task=task,
        state=ItemState.FAILED if not seen else ItemState.SUCCEEDED if itself else ItemState.DUPLICATE,
        code=Code.SAME_CONTENT if seen and not itself else outcome,
        outcome=outcome,
        annotation=annotation,
        sha256=sha256,
        taken_at=taken_at,
        message="" if seen else f"The same bytes were met before, and are {outcome.name.lower().replace('_', ' ')}.",
    )


def _outcome(result: PhotoResult) -> Code:
    return result.code if result.outcome is None else result.outcome


def _content_of(result: PhotoResult) -> bytes:
    assert result.sha256 is not None  # those of a leader have it
    return result.sha256
