"""Errors, sorted by what the caller does next.

PictographError
├── ConfigurationError    stop: the user must change a setting, an argument or a credential (exit status 2)
│   ├── SourceError       the photos' place cannot be read as it was named
│   │   └── AccessDenied  it is there, and we may not do this to it
│   └── Conflict          what is asked for contradicts what is there
├── ServiceDown           retry: Postgres, the broker or S3 does not answer; nobody's photo is to blame
├── Throttled             retry, later: the service answers "slow down"
├── SkipPhoto             this photo is done for, with a reason (`code`); its neighbours go on
│   ├── PhotoGone         the object no longer exists
│   └── PhotoUnreadable   unsupported, too large, corrupt, or closed to us
├── PhotoChanged          the object is no longer the one that was listed; look again, then retry
├── LeaseLost             another worker holds the shard now; stop at the next photo
└── ModelError            the model, its weights or its output cannot be trusted
    └── BackendDown       it does not work here at all; no photo is to blame, and only a new process may try again
        └── DeviceLost    the device that it runs on fails

Adapters translate foreign errors into these, ``from exc``; above an adapter nobody names botocore, psycopg2 or torch.
"""

from pipeline.records import Code


class PictographError(Exception):
    """Something went wrong; the message is one sentence that says what, and what to do."""


class ConfigurationError(PictographError):
    """A setting, an argument or a credential is wrong."""


class SourceError(ConfigurationError):
    """The photos' place cannot be read as it was named."""


class AccessDenied(SourceError):
    """The place answers, and does not let us do this."""


class Conflict(ConfigurationError):
    """What is asked for cannot be done to a thing that stands as it does."""


class ServiceDown(PictographError):
    """A server does not answer; try again later."""


class Throttled(ServiceDown):
    """A server asks to be asked less often."""


class SkipPhoto(PictographError):
    """This photo ends here, for the reason in ``code``."""

    code: Code = Code.CORRUPT

    def __init__(self, message: str, code: Code | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class PhotoGone(SkipPhoto):
    """The object was deleted since it was listed."""

    code = Code.GONE


class PhotoUnreadable(SkipPhoto):
    """The bytes are no photo that we read, or none that we may read."""


class PhotoChanged(PictographError):
    """The object was overwritten since it was listed."""


class LeaseLost(PictographError):
    """The shard's epoch has moved on: another worker holds it."""


class ModelError(PictographError):
    """The model or its output cannot be trusted."""


class BackendDown(ModelError):
    """The model does not work in this process any more: not even its canaries come out right."""


class DeviceLost(BackendDown):
    """The device that the model runs on does not work any more for this process."""
