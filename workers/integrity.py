"""Whether bytes are what was listed, beyond their length: many stores give a photo's MD5 as its ETag.

Laws
1. An ETag is opaque: one of 32 hexadecimal digits may be an MD5 or not (encrypted objects have others). So bytes that
   do not fit are fetched again; if they come out the same, they are what the store has, and the ETag is no MD5.
2. A bucket with such an ETag is not doubted any more: each doubt costs a request.
3. TLS lets no damage through, so only lines without it are watched. An MD5 takes a hundredth of the time that the model
   takes on a CPU.
"""

import hashlib
import re

from pipeline.errors import ServiceDown
from pipeline.records import PhotoTask

_MAY_BE_MD5 = re.compile(r"[0-9a-f]{32}")


class Integrity:
    """What is known of the ETags of each bucket. Threads share it."""

    def __init__(self, endpoint_url: str | None) -> None:
        self._watches = endpoint_url is not None and endpoint_url.startswith("http://")
        self._opaque: set[str] = set()  # buckets in which an ETag was none

    def checked(self, task: PhotoTask, data: bytes, doubted: set[bytes]) -> bytes:
        """The same `data`, if it may be used. `doubted` holds the sums of what was refused before, for this photo.

        Raises:
            ServiceDown: it may have been damaged on its way.
        """
        if not self._watches or task.bucket in self._opaque or not _MAY_BE_MD5.fullmatch(task.etag):
            return data
        found = hashlib.md5(data, usedforsecurity=False).digest()
        if found.hex() == task.etag:
            return data
        if found in doubted:
            self._opaque.add(task.bucket)
            return data
        doubted.add(found)
        raise ServiceDown(f"{task.bucket}/{task.key} came with other bytes than its ETag stands for.")
