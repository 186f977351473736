"""What the first page after a start would else wait for, made ready before the server says that it answers."""

import logging

from api.errors import Problem
from api.pages.render import compile_all
from api.services import Services
from api.views import categories
from api.views.gallery import Reader
from pipeline.errors import PictographError
from pipeline.store.roles import see_everybody

WORD = "dog"  # any: whatever is searched for, the same index is made

log = logging.getLogger(__name__)


def warm(services: Services) -> None:
    """Compile the pages; load the taxonomy, its index of words, and the counts of all categories.

    A server that cannot do so now, for its database is away or empty, serves all the same and says what is missing.
    """
    compile_all()
    reader = Reader(user=None, fewest=services.settings.fewest_users)
    try:
        with services.database.transaction() as connection:
            see_everybody(connection)
            categories.broadest(connection, reader)
            categories.search(connection, reader, WORD, 1)
    except (Problem, PictographError) as missing:
        log.info("nothing is made ready: %s", missing)
