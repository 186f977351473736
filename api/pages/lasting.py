"""Files of the pages, which browsers keep for as long as their contents are what the address says."""

import os

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from api.pages.render import static

FOR_EVER = "public, max-age=31536000, immutable"


class Lasting(StaticFiles):
    """Static files. One that is asked for by the hash of its contents never changes at that address.

    By a hash of other contents, which a newer server may have given, it is answered and not kept.
    """

    def file_response(
        self,
        full_path: str | os.PathLike[str],
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """The file."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        name = os.path.relpath(full_path, str(self.directory))
        asked = f"/static/{name}?{scope['query_string'].decode('latin-1')}"
        response.headers["Cache-Control"] = FOR_EVER if asked == static(name) else "no-cache"
        return response
