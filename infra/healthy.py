"""The health check of the containers: ends with status 0 if the process beside it is well, and says why not otherwise.

healthy.py api                  the API on this machine answers /readyz
healthy.py "pictograph ingest"  a database session of that name, from this machine's address, was used within a minute;
                                workers beat at least every 20 seconds, the redriver looks at every tick
"""

import sys
import urllib.error
import urllib.request

import psycopg2

from pipeline.settings import Settings

QUIET_SECONDS = 60
SESSIONS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = %s AND client_addr IS NOT DISTINCT FROM inet_client_addr()
      AND state_change > now() - make_interval(secs => %s)"""


def why_not(name: str, settings: Settings) -> str | None:
    """What is wrong with the process of that name; None if nothing is."""
    return _api(settings.api_port) if name == "api" else _session(name, settings)


def _api(port: int) -> str | None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy is not for this machine
    try:
        direct.open(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
    except urllib.error.HTTPError as exc:
        return exc.read().decode()
    except OSError as exc:
        return f"the API does not answer: {exc}"
    return None


def _session(application: str, settings: Settings) -> str | None:
    if settings.database_url is None:
        return "PICTOGRAPH_DATABASE_URL is not set"
    try:
        connection = psycopg2.connect(settings.database_url.get_secret_value(), connect_timeout=5)
    except psycopg2.OperationalError as exc:
        return str(exc)
    with connection, connection.cursor() as cursor:
        cursor.execute(SESSIONS, (application, QUIET_SECONDS))
        ((alive,),) = cursor.fetchall()
    return None if alive else f"no session of {application!r} was used within {QUIET_SECONDS} s"


if __name__ == "__main__":
    sys.exit(why_not(sys.argv[1], Settings.read()))
