"""Nine sabotages, one for each guarantee that this system lives by, and the tests that must notice them."""

from tests.chaos.mutants import Change, Mutant

#: What was read, whether or not it changed anything, in the form of what changed.
FROM_STAGING = """FROM (
    SELECT CAST(:model AS smallint) AS model_id, photo_id, NULL::bigint AS old_user, NULL::smallint[] AS old_nodes,
           NULL::smallint[] AS old_masses, NULL::smallint[] AS old_tags, user_id AS new_user, nodes AS new_nodes,
           masses AS new_masses, tags AS new_tags FROM results) AS changed"""
#: What a merge tells of each result, and by it whether the totals are added to without asking the server.
TOLD = "SELECT photo_id, new_user AS user_id, {SLOT} AS slot, "
ADDED = "old_user IS NULL AND NOT :twice AS added"

MUTANTS = (
    Mutant(
        name="m1-lock-order",
        breaks="merges take their locks in one order, so none waits for another in a circle",
        changes=(
            Change(
                file="pipeline/store/merge.py",
                old='ORDER BY p.photo_id FOR NO KEY UPDATE"""',
                new='FOR NO KEY UPDATE"""',
            ),
            Change(
                file="pipeline/store/netting.py",
                old="for a in amounts)} ORDER BY {columns}\nON CONFLICT",
                new="for a in amounts)} ORDER BY random()\nON CONFLICT",
            ),
        ),
        tests=("tests/chaos/test_orders.py::test_merges_of_any_size_and_order_take_their_locks_in_one_order",),
    ),
    Mutant(
        name="m2-totals-from-staging",
        breaks="totals change by what changed in the results, and by nothing else",
        changes=(
            Change(
                file="pipeline/store/merge.py",
                old=f"), collected AS ({{COLLECT}})\n{TOLD}{ADDED}",
                new=f'), collected AS ({{COLLECT.replace("FROM changed", FROM_STAGING)}})\n{TOLD}false AS added',
            ),
            Change(
                file="pipeline/store/merge.py",
                old="apply_delta(connection, None if more else known)",
                new="apply_delta(connection)",
            ),
            Change(
                file="pipeline/store/merge.py",
                old='_SEEN = ", "',
                new=f'FROM_STAGING = """{FROM_STAGING}"""\n_SEEN = ", "',
            ),
        ),
        tests=("tests/chaos/test_orders.py::test_every_order_of_two[merge-duplicate]",),
    ),
    Mutant(
        name="m3-erase-unfenced",
        breaks="nothing that was under way when a user was hidden brings the user back",
        changes=(
            Change(
                file="pipeline/ledger/erase.py",
                old="WHERE name = :user FOR UPDATE",
                new="WHERE name = :user",
            ),
        ),
        tests=("tests/chaos/test_orders.py::test_every_order_of_two[delete-arrive]",),
    ),
    Mutant(
        name="m4-nobody-comes-back",
        breaks="what a dead worker held is taken up again, whatever became of its message",
        changes=(
            Change(
                file="workers/app.py",
                old="task_acks_late=True,",
                new="task_acks_late=False,",
            ),
            Change(
                file="workers/redriver.py",
                old="expired = self.database.run(lambda c: redrive.expire_shards(c, shard_photos, "
                "self.settings.lease_seconds))",
                new="expired = dict[str, int]()",
            ),
        ),
        tests=(
            "tests/chaos/test_sweep.py::test_a_kill_loses_nothing_and_counts_nothing_twice[claim.after_commit-2]",
            "tests/chaos/test_sweep.py::test_a_kill_loses_nothing_and_counts_nothing_twice[merge.after_copy-1]",
        ),
    ),
    Mutant(
        name="m5-unfenced-finish",
        breaks="a worker whose lease was lost finishes nothing",
        changes=(
            Change(
                file="pipeline/store/merge.py",
                old="WHERE s.lease_epoch = l.epoch AND s.state = {WorkState.LEASED} ORDER BY 1 FOR UPDATE OF s) mine",
                new="WHERE s.state = {WorkState.LEASED} ORDER BY 1 FOR UPDATE OF s) mine",
            ),
        ),
        tests=("tests/chaos/test_orders.py::test_every_order_of_two[merge-redrive]",),
    ),
    Mutant(
        name="m6-named-exchange",
        breaks="messages reach their queue although the broker has forgotten everything",
        changes=(
            Change(
                file="workers/send.py",
                old="app.send_task(TASKS[kind], args=(work_id,), queue=queue, declare=[])",
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
    Mutant(
        name="m9-stale-content",
        breaks="a photo that was overwritten after it was read is read again",
        changes=(
            Change(
                file="pipeline/store/merge.py",
                old="WHEN l.content_rev <> s.content_rev THEN {ItemState.RETRY} ELSE s.state END",
                new="ELSE s.state END",
            ),
            Change(
                file="pipeline/store/merge.py",
                old="WHEN l.content_rev <> s.content_rev THEN {Code.NONE} ELSE s.code END",
                new="ELSE s.code END",
            ),
        ),
        tests=("tests/chaos/test_orders.py::test_every_order_of_two[merge-change]",),
    ),
)
