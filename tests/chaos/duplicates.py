"""Messages delivered more than once and in another order, as Redis and kombu may do."""

import base64
import json
import random
import threading
from typing import Any

import redis
from redis.exceptions import RedisError

LOOK_SECONDS = 0.02  # between looks; workers take a message within milliseconds, so most are seen in flight
UNACKED = "unacked"  # where kombu keeps what is delivered and not acknowledged
QUEUES = ("annotate.*", "ingest")


class Duplicator:
    """A thread that repeats each message once while it runs, and shuffles what waits."""

    def __init__(self, url: str, seed: float) -> None:
        """`url`: of the broker, as somebody who may do everything there."""
        self.repeated = 0
        self._chance = random.Random(seed)
        self._broker = redis.Redis.from_url(url, socket_timeout=2)
        self._seen: set[tuple[str, int]] = set()  # queues and ids of what they ring for
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="duplicator", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; returns when nothing more is sent."""
        self._stop.set()
        self._thread.join()
        self._broker.close()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self._repeat_delivered()
                self._repeat_waiting()
            except RedisError:
                self._stop.wait(1.0)  # somebody is killing it, too

    def _repeat_delivered(self) -> None:
        """Send again what workers have and have not acknowledged."""
        for kept in self._broker.hgetall(UNACKED).values():
            message, _exchange, queue = json.loads(kept)
            if self._is_new(queue, message):
                self._broker.lpush(queue, json.dumps(message))
                self.repeated += 1

    def _repeat_waiting(self) -> None:
        """Send again what waits, and put all of it into another order."""
        for pattern in QUEUES:
            for queue in self._broker.scan_iter(pattern, _type="list"):
                waiting = self._broker.lrange(queue, 0, -1)
                fresh = [message for message in waiting if self._is_new(queue.decode(), json.loads(message))]
                if fresh:
                    self._put(queue, [*waiting, *fresh])
                    self.repeated += len(fresh)

    def _put(self, queue: bytes, messages: list[Any]) -> None:
        """A message that arrives or is taken in this very moment is lost or doubled; both may happen in life."""
        self._chance.shuffle(messages)
        with self._broker.pipeline(transaction=True) as all_at_once:
            all_at_once.delete(queue)
            all_at_once.rpush(queue, *messages)
            all_at_once.execute()

    def _is_new(self, queue: str, message: dict[str, Any]) -> bool:
        """Whether nothing has been repeated yet that rings for the same; copies of copies would never end."""
        (work_id,), *_ = json.loads(base64.b64decode(message["body"]))
        name = queue, work_id
        if name in self._seen:
            return False
        self._seen.add(name)
        return True
