"""The health check of the API's container: ends with status 0 if the API on this machine answers /readyz.

Says why not otherwise. The workers' containers are checked by `pictograph alive`.
"""

import sys
import urllib.error
import urllib.request

from pipeline.settings import Settings


def why_not(port: int) -> str | None:
    """What is wrong with the API; None if nothing is."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy is not for this machine
    try:
        direct.open(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
    except urllib.error.HTTPError as exc:
        return exc.read().decode()
    except OSError as exc:
        return f"the API does not answer: {exc}"
    return None


if __name__ == "__main__":
    sys.exit(why_not(Settings.read().api_port))
