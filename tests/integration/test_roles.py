"""Every process acts as its role: it can do all of its work, and nothing else."""

import pytest
from ledger_helpers import BUCKET, LEASE_SECONDS, failed, page_of, ref, waiting

from pipeline.errors import ConfigurationError, ServiceDown
from pipeline.ledger import control, ending, jobs, publish, redrive, roster, work
from pipeline.ledger.erase import erase
from pipeline.records import Code, ItemState, JobState, Version, WorkState
from pipeline.sources.source import Interval
from pipeline.store.catalogue import register_model, registered_model
from pipeline.store.roles import Role
from taxonomy.decide import Decision

NO = r"permission denied|must be owner|row-level security"  # how the server refuses

#: What each role may do to each table: select, insert, update, delete; (columns) where not the whole row.
RIGHTS = """
                     ingest                  worker                              api              eraser
    active_effect    S                       -                                   S                -
    active_model     S                       S                                   S                -
    api_key - - S(KEY),U(used_at) S(revoked_at+user_name),U(revoked_at)
    api_secret       -                       -                                   S                -
    app_user S,I(name),U(consent+shared) S(deleted_at+shared+user_id),U(created_at) S S,U(deleted_at+shared)
    breaker          S                       S,I,U,D                             S                -
    bucket           S,I                     S                                   S                S
    category         S                       -                                   S                -
    category_closure -                       -                                   -                -
    category_level   -                       -                                   -                -
    category_total   S,I,U                   S,I,U                               S                S,I,U
    decision         S                       S                                   S                -
    delivery         S,I,U                   S,U                                 S                S,U
    erasure          -                       -                                   -                S,I,U
    firing           S,I,U                   -                                   -                -
    job              S,I,U                   S,U                                 S                S(job_id+tidying_at)
    job_count        S,I,U                   S,I,U                               S                S,I,U
    job_entry        S,I,D                   -                                   -                S,D
    job_item         S,I,U,D                 S,U                                 S                S,U(state),D
    job_line         S,I,D                   -                                   S                S,U
    job_missing      S,U(photo_id),D,I       S,D                                 -                S,D
    list_range       S,I,U                   S,U                                 S                -
    model            S                       S                                   S                S(dropped_at+model_id)
    model_report     S,I,U                   -                                   S                -
    model_revision   S,I,U                   S,I,U                               S                S,I,U
    object_event     S,I,U                   -                                   S                S,D
    photo            S,I,U                   S,U(BYTES)                          S,U(created_at)  S,U(created_at),D
    photo_result     S,U(DECIDED),D          S,I,U,D                             S                S,D
    policy           S                       -                                   S                -
    policy_effect    S                       -                                   S                -
    policy_rule      -                       -                                   S                -
    promotion        S,I                     S                                   S                S
    queue_limit      S,I,U,D                 S                                   S                -
    schedule         S,I,U                   S                                   -                -
    shard            S,I,U                   S,I,U                               S                -
    shared_total     S,I,U                   S,I,U                               S                S,I,U
    taxonomy         S                       S                                   S                -
    taxonomy_category S                      S                                   S                -
    thumbnail        S(photo_id),D           S(photo_id),D                       S,I,U,D          S(photo_id),D
    user_category    S,I,U                   S,I,U                               S                S,I,U,D
    user_revision    S,I,U                   S,I,U                               S,I,U            S,I,U,D
    verdict          S,D                     -                                   S,I,U,D          S,D
    worker           S,I,U,D                 S,I,U,D                             S                -
"""
BYTES = "content_rev+etag+gone_at+size+taken_at+taken_from+version_id"  # what a photo's bytes bring along

KEY = "expires_at+key_id+name+revoked_at+scopes+secret_sha256+used_at+user_name"

DECIDED = "decision_rev+headline+masses+nodes+outcome+tags+taken_at+user_id"  # and whose photo it is

#: Tables whose rows are somebody's, or name keys: an API sees none of them before it has said for whom it looks.
OF_SOMEBODY = {
    "app_user",
    "delivery",
    "job",
    "job_count",
    "job_item",
    "job_line",
    "list_range",
    "object_event",
    "photo",
    "photo_result",
    "shard",
    "thumbnail",
    "user_category",
    "user_revision",
    "verdict",
}

RIGHTS_OF_ROLES = ("rolsuper", "rolbypassrls", "rolreplication", "rolcanlogin", "rolcreaterole", "rolcreatedb")

GRANTED = """
SELECT n.nspname AS schema, c.relname AS name, substr(r.rolname, 12) AS role, a.privilege_type AS may,
       NULL::text AS columns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN aclexplode(c.relacl) a
JOIN pg_roles r ON r.oid = a.grantee WHERE n.nspname IN ('core', 'tags', 'public') AND a.grantee <> c.relowner
UNION ALL
SELECT n.nspname, c.relname, substr(r.rolname, 12), a.privilege_type, string_agg(t.attname, '+' ORDER BY t.attname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute t ON t.attrelid = c.oid
CROSS JOIN aclexplode(t.attacl) a JOIN pg_roles r ON r.oid = a.grantee
WHERE n.nspname IN ('core', 'tags', 'public') GROUP BY 1, 2, 3, 4"""


def refused(ledger, query, because=NO):
    """The server does not let this role do it."""
    with pytest.raises(ConfigurationError, match=because):
        ledger.all(query)


# ---- who may do what


def expected():
    head, *lines = [line.split() for line in RIGHTS.strip().splitlines()]
    return {
        (table, role): set() if cell == "-" else {*_spelt_out(cell).split(",")}
        for table, *cells in lines
        for role, cell in zip(head, cells, strict=True)
    }


def _spelt_out(cell):
    for word, columns in (("BYTES", BYTES), ("DECIDED", DECIDED), ("KEY", KEY)):
        cell = cell.replace(word, columns)
    return cell


def test_each_role_may_do_this_and_no_more(ledger):
    found = {key: set() for key in expected()}
    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'core'::regnamespace AND relkind IN ('r', 'p', 'v')"
    for table in ledger.all(f"{tables} AND NOT relispartition"):
        assert (table.relname, "api") in found, f"who may do what to {table.relname}?"
    for right in ledger.all(GRANTED):
        if right.schema == "core":
            letter = right.may[0] if right.may in ("SELECT", "INSERT", "UPDATE", "DELETE") else right.may
            found.setdefault((right.name, right.role), set()).add(
                letter + (f"({right.columns})" if right.columns else "")
            )
    assert found == expected()


def test_analysts_read_the_views_for_people_and_nothing_else(ledger):
    rights = ledger.all(GRANTED)
    views = {row.viewname for row in ledger.all("SELECT viewname FROM pg_views WHERE schemaname = 'tags'")}
    assert {(r.schema, r.name, r.may) for r in rights if r.role == "analyst"} == {("tags", v, "SELECT") for v in views}
    assert {r.role for r in rights if r.schema == "tags"} == {"analyst"}
    assert [(r.name, r.role, r.may) for r in rights if r.schema == "public"] == [("alembic_version", "api", "SELECT")]


def test_nobody_is_a_superuser_or_passes_by_the_policies(ledger):
    sessions = """
        SELECT DISTINCT r.rolname FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
        WHERE a.backend_type = 'client backend' AND (r.rolsuper OR r.rolbypassrls OR r.rolreplication)"""
    assert ledger.all(sessions) == []
    for role in ledger.all("SELECT * FROM pg_roles WHERE rolname = ANY (:names)", names=[*Role]):
        may = {name for name in RIGHTS_OF_ROLES if getattr(role, name)}
        assert may == set(), role.rolname
    members = (
        "SELECT count(*) FROM pg_auth_members WHERE member IN (SELECT oid FROM pg_roles WHERE rolname = ANY (:names))"
    )
    assert ledger.one(members, names=[*Role]) == 0
    owners = """
        SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class
        WHERE relnamespace IN ('core'::regnamespace, 'tags'::regnamespace)"""
    assert ledger.one(owners) == ledger.one("SELECT session_user")


@pytest.mark.parametrize("role", Role)
def test_no_role_may_create_anything(ledger, role):
    schemas = "SELECT nspname FROM pg_namespace WHERE has_schema_privilege(:role, oid, 'CREATE')"
    assert [row.nspname for row in ledger.all(schemas, role=role) if "temp" not in row.nspname] == []
    assert not ledger.one("SELECT has_database_privilege(:role, current_database(), 'CREATE')", role=role)
    merges = role in (Role.INGEST, Role.WORKER, Role.ERASER)  # rows go through temporary tables
    assert ledger.one("SELECT has_database_privilege(:role, current_database(), 'TEMPORARY')", role=role) == merges


def test_everything_of_somebody_is_behind_the_policies(ledger):
    secured = "SELECT relname FROM pg_class WHERE relrowsecurity AND relnamespace = 'core'::regnamespace"
    assert {row.relname for row in ledger.all(secured)} == OF_SOMEBODY


# ---- what a role is there for


def test_ingest_lists_moves_and_subtracts(ledger, ingest, worker):
    job_id = ingest.list([ref("a.jpg"), ref("b.jpg"), ref("c.jpg")])
    worker.tag_all(job_id, "dog")
    ledger.execute("INSERT INTO core.thumbnail SELECT photo_id, 64, 1, 'x' FROM core.photo")
    second = ingest.submit(allow_mass_delete=True)
    lease = ingest.claim_range(second)
    span = Interval(bucket=BUCKET, after="", upto="z")
    ingest.write_page(second, lease, page_of([ref("a.jpg", user="ben"), ref("b.jpg", etag="e2")], last=False), span)
    assert ingest.database.run(lambda c: work.RANGES.renew(c, [lease], 60.0)) == {lease.work_id}
    ingest.finish(second, lease)
    assert ledger.photos_with("dog", "ben") == (1, 9_000)
    assert ledger.photos_with("dog") == (2, 18_000)
    assert ledger.one("SELECT count(*) FROM core.thumbnail") == 2
    ingest.database.run(lambda c: jobs.add_refusals(c, second, ["d.txt: no photo"]))
    assert ingest.database.run(lambda c: control.pause(c, second, "ann"))
    assert ingest.database.run(lambda c: control.resume(c, second))
    ingest.database.run(lambda c: ending.fail(c, second, "enough"))
    assert ingest.job(second).state is JobState.FAILED
    ledger.check()


def test_a_worker_merges_every_kind_of_result(ledger, ingest, worker):
    job_id = ingest.list([ref(f"{n}.jpg") for n in range(5)])
    (lease,) = worker.claim_all(job_id)
    worker.database.run(lambda c: work.mark_started(c, lease))
    tasks = worker.tasks(lease)
    worker.database.run(lambda c: work.note_changed(c, tasks[4], Version(etag="e2", size=11)))
    results = [worker.tagged(tasks[0], "dog"), failed(tasks[1], Code.GONE), failed(tasks[2], Code.CORRUPT)]
    merged = worker.merge([*results, waiting(tasks[3]), worker.tagged(tasks[4], "cat")], [lease])
    assert merged.finished == {lease.work_id}
    assert worker.merge(results, [lease]).stored == 0
    assert worker.database.run(lambda c: redrive.give_up_failing(c, lease, "why")) is False
    ledger.check()


def test_a_redriver_splits_quarantines_and_ends(ledger, ingest, worker):
    job_id = ingest.list([ref("a.jpg"), ref("b.jpg")])
    for _ in range(6):
        worker.database.run(lambda c: roster.note_worker(c, "worker", "annotate.small", progressed=False))
        for lease in worker.claim_all(job_id):
            worker.database.run(lambda c, lease=lease: work.mark_started(c, lease))
        ledger.expire()
        worker.database.run(lambda c: redrive.expire_shards(c, 512, LEASE_SECONDS))
    assert ledger.job(job_id).count(ItemState.FAILED) == 2
    assert ledger.shards(job_id, WorkState.SPLIT)
    for step in (
        lambda c: redrive.expire_ranges(c, LEASE_SECONDS),
        publish.publishable,
        ending.finish_jobs,
        lambda c: publish.unqueue(c, 0),
        lambda c: redrive.gather_retries(c, 512),
    ):
        worker.database.run(step)
    assert ledger.job(job_id).state is JobState.SUCCEEDED_WITH_ERRORS
    ledger.check()


def test_a_redriver_fails_jobs_whose_listing_breaks_off(ledger, ingest, worker):
    job_id = ingest.submit()
    for _ in range(redrive.LISTING_DEATHS_ALLOWED):
        ingest.database.run(lambda c: roster.note_worker(c, "lister", "ingest", progressed=False))
        ingest.claim_range(job_id)
        ledger.expire("core.list_range")
        worker.database.run(lambda c: redrive.expire_ranges(c, LEASE_SECONDS))
    assert ledger.job(job_id).state is JobState.FAILED


def test_the_eraser_leaves_nothing_of_a_user(ledger, two_users, roles):
    receipt = erase(roles[Role.ERASER].database, "ann", batch_photos=1)
    assert (receipt.photos, receipt.results, receipt.thumbnails, receipt.items) == (2, 2, 2, 2)
    assert not any(receipt.left.values())
    assert ledger.photos_with("dog") == (3, 27_000)
    ledger.check()


def test_only_the_owner_registers_a_model_and_who_works_with_it_finds_it(ledger, roles):
    other = b"other".ljust(32, b"\0")
    for role in (Role.INGEST, Role.WORKER):
        with roles[role].database.transaction() as connection:
            found = registered_model(connection, "small", b"small".ljust(32, b"\0"))
        assert (found.model_id, found.decision) == (ledger.registered.model_id, ledger.registered.decision)
        assert found.nodes.tolist() == ledger.registered.nodes.tolist()
        with pytest.raises(ConfigurationError, match="run `pictograph migrate` with PICTOGRAPH_MODEL=other"):
            roles[role].database.run(lambda c: registered_model(c, "other", other))
        with pytest.raises(ConfigurationError, match=f"does not let role {role} do this"):
            roles[role].database.run(lambda c: register_model(c, "other", other, ledger.taxonomy, Decision()))


# ---- what it is not there for


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM core.app_user",
        "UPDATE core.app_user SET deleted_at = now()",
        "UPDATE core.app_user SET created_at = now()",  # a lock wants this right: the policy refuses its use
        "DELETE FROM core.photo",
        "UPDATE core.photo SET user_id = 1",
        "DELETE FROM core.job_item",
        "INSERT INTO core.job (kind) VALUES ('s3')",
        "SELECT jpeg FROM core.thumbnail",
        "SELECT name FROM core.app_user",
        "SELECT * FROM tags.photo_tag",
        "TRUNCATE core.photo_result",
        "DROP TABLE core.photo_result",
        "ALTER TABLE core.photo_result ADD COLUMN more int",
        "ALTER TABLE core.photo_result DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE core.mine ()",
        "CREATE TABLE public.mine ()",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "GRANT pictograph_eraser TO pictograph_worker",
    ],
)
def test_a_worker_cannot(two_users, worker, query):
    refused(worker, query)


@pytest.mark.parametrize("role", [Role.INGEST, Role.ERASER])
def test_nobody_else_changes_what_he_may_only_lock(two_users, roles, role):
    table = "app_user" if role is Role.INGEST else "photo"
    roles[role].all(f"SELECT FROM core.{table} FOR KEY SHARE")
    refused(roles[role], f"UPDATE core.{table} SET created_at = now()")


# ---- analysts


def test_an_analyst_reads_what_is_for_people(two_users, ledger, analyst):
    for view in ledger.all("SELECT viewname FROM pg_views WHERE schemaname = 'tags'"):
        found = analyst.all(f"SELECT * FROM tags.{view.viewname}")
        assert bool(found) == (view.viewname != "incoherence"), view.viewname  # which must be empty
    assert analyst.one("SHOW statement_timeout") == "1min"
    ledger.execute("CREATE VIEW tags.later AS SELECT 1 AS one")
    try:
        assert analyst.one("SELECT * FROM tags.later") == 1
    finally:
        ledger.execute("DROP VIEW tags.later")


def test_an_analyst_writes_nothing(two_users, analyst):
    with pytest.raises(ServiceDown, match="read-only transaction"):
        analyst.all("CREATE TEMP TABLE mine ()")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM core.photo",
        "SELECT count(*) FROM core.job",
        "INSERT INTO core.app_user (name) VALUES ('eve')",
        "CREATE TEMP TABLE mine ()",
        "CREATE VIEW tags.mine AS SELECT 1",
        "CREATE FUNCTION tags.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    ],
)
def test_an_analyst_reads_only_because_nothing_else_is_granted(two_users, analyst, query):
    refused(analyst, f"SET TRANSACTION READ WRITE; {query}")
