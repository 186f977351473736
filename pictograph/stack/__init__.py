"""The embedded stack: real PostgreSQL, Valkey and S3 servers under one data folder. Knows no domain.

    with stack.open(home) as endpoints:
        ...  # endpoints.database_url, .broker_url, .s3_endpoint_url

How it holds together:

1. One *keeper* process per home starts the servers as its children and is the only one that stops them. It holds
   ``keeper.lock`` for as long as it lives.
2. Whoever needs the servers holds a shared lock on ``users.lock``. The kernel drops it however the user ends, so a
   ``kill -9`` cannot leave servers behind: the keeper leaves, with everything, once it can take that lock for itself.
3. A server dies with its keeper (PR_SET_PDEATHSIG). Should one be left all the same, the next keeper finds it by the
   home's mark on its command line and ends it first.
4. All locks are ``flock``: after a crash or a reboot there is nothing stale to clean up.
"""

from pictograph.stack.attach import Stack, open, wait_until_stopped
from pictograph.stack.home import ALL, Endpoints, Service

__all__ = ["ALL", "Endpoints", "Service", "Stack", "open", "wait_until_stopped"]
