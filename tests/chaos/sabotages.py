"""Nine sabotages, one for each guarantee that this system lives by, and the tests that must notice them."""

from tests.chaos.mutants import Change, Mutant

MUTANTS = (
    Mutant(
        name="m6-named-exchange",
        breaks="messages reach their queue although the broker has forgotten everything",
        changes=(
            Change(
                file="workers/send.py",
                old="app.send_task(TASKS[kind], args=(work_id,), queue=queue)",
                new="app.send_task(TASKS[kind], args=(work_id,), queue=_named(queue))",
            ),
            Change(
                file="workers/send.py",
                old="from pipeline.errors import ServiceDown\n",
                new="from functools import cache\n\nfrom kombu import Exchange, Queue\n\n"
                "from pipeline.errors import ServiceDown\n\n\n@cache\ndef _named(queue):\n"
                '    return Queue(queue, Exchange("work", "topic"), routing_key=queue)\n',
            ),
        ),
        tests=("tests/integration/test_redrive.py::test_a_wiped_broker_gets_its_messages_again",),
    ),
    Mutant(
        name="m7-truncated-photos",
        breaks="half a photo is corrupt, and never tagged",
        changes=(
            Change(
                file="workers/decode/pixels.py",
                old="Image.MAX_IMAGE_PIXELS = MAX_PIXELS\n",
                new="Image.MAX_IMAGE_PIXELS = MAX_PIXELS\nfrom PIL import ImageFile\n"
                "ImageFile.LOAD_TRUNCATED_IMAGES = True\n",
            ),
        ),
        tests=("tests/contract/test_decode_corpus.py",),
    ),
    Mutant(
        name="m8-short-bodies",
        breaks="a body counts only with exactly the listed length",
        changes=(
            Change(
                file="workers/fetch.py",
                old='if answer.meta["size"] != task.size:',
                new='if answer.meta["size"] > task.size:',
            ),
            Change(
                file="workers/fetch.py",
                old="        if len(data) != task.size:\n",
                new="        if len(data) > task.size:\n",
            ),
        ),
        tests=("tests/integration/test_fetch_trouble.py",),
    ),
)
