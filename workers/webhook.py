"""Notices by HTTP, signed as Standard Webhooks says: the receiver can tell that they are ours, and whether they repeat.

Law: a notice goes to the address that it was given and no further. Redirects are not followed, the environment's
proxies are not asked, and nothing that is answered is read but the status.
"""

import base64
import hmac
from typing import Final

import urllib3
from urllib3.exceptions import HTTPError

from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.ledger.targets import check_url

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 15.0  # as Standard Webhooks advises: receivers queue, and answer at once
_TIMEOUT: Final = urllib3.Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS)


def signature(key: bytes, event_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: HMAC-SHA256 of "id.timestamp.body"."""
    signed = b".".join((event_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def post(url: str, body: bytes, *, key: bytes, event_id: str, timestamp: int) -> int:
    """Send a notice; the status it was taken with.

    Args:
        url: checked anew, because it was written down long ago.
        body: JSON.
        key: of the signature.
        event_id: the same at every try.
        timestamp: now, in Unix seconds; receivers refuse what is minutes old.

    Raises:
        ServiceDown: nobody answered, or with anything but 2xx.
        ConfigurationError: the address is none that notices may go to.
    """
    check_url(url)
    headers = {
        "content-type": "application/json",
        "user-agent": "pictograph",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(key, event_id, timestamp, body),
    }
    try:
        with urllib3.PoolManager(timeout=_TIMEOUT, retries=False) as pool:
            answer = pool.request(
                "POST", url, body=body, headers=headers, redirect=False, preload_content=False, decode_content=False
            )
            answer.close()
    except HTTPError as exc:
        raise ServiceDown(f"{url} did not take the notice ({_why(exc)}).") from exc
    except ValueError as exc:  # e.g. a host's name that cannot be one
        raise ConfigurationError(f"{url} is no address that a notice can go to.") from exc
    if not 200 <= answer.status < 300:
        raise ServiceDown(f"{url} answered {answer.status}, and not that it took the notice.")
    return answer.status


def _why(exc: HTTPError) -> str:
    return f"{type(exc).__name__}: {str(exc).rpartition(': ')[2]}"[:200]
