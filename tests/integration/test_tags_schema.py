"""Schema tags: every part explained, one model unless asked, the policy everywhere, what must be empty."""

import re

import pytest
from ledger_helpers import ref, small_taxonomy
from sqlalchemy import text
from sqlalchemy.exc import DataError, DBAPIError

from pipeline.records import Code
from pipeline.store import policies
from pipeline.store.promotions import find_model, promote
from pipeline.store.roles import Role
from pipeline.store.session import Database
from taxonomy.policy import Rule, parse_rule

# ---- every part is explained

WITHOUT_WORDS = """
SELECT c.oid::regclass::text AS name FROM pg_class c
WHERE c.relnamespace IN ('core'::regnamespace, 'tags'::regnamespace) AND c.relkind IN ('r', 'p', 'v', 'm')
  AND NOT c.relispartition AND obj_description(c.oid, 'pg_class') IS NULL
UNION ALL
SELECT format('%s.%I', c.oid::regclass, a.attname) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace IN ('core'::regnamespace, 'tags'::regnamespace) AND c.relkind IN ('r', 'p', 'v', 'm')
  AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped AND col_description(c.oid, a.attnum) IS NULL
UNION ALL
SELECT p.oid::regprocedure::text FROM pg_proc p
WHERE p.pronamespace IN ('core'::regnamespace, 'tags'::regnamespace) AND obj_description(p.oid, 'pg_proc') IS NULL"""

COLUMNS = """
SELECT format('%s.%s', c.relname, a.attname) AS name, a.attname AS column, col_description(c.oid, a.attnum) AS words,
       obj_description(c.oid, 'pg_class') AS grain
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'tags'::regnamespace AND c.relkind = 'v' AND a.attnum > 0"""


def test_everything_in_both_schemas_says_what_it_is(ledger):
    assert {row.name for row in ledger.all(WITHOUT_WORDS)} == set()


def test_a_missing_comment_is_noticed(ledger):
    with ledger.database.engine.connect() as connection:
        connection.execute(text("CREATE VIEW tags.later AS SELECT 1 AS one"))
        found = set(connection.execute(text(WITHOUT_WORDS)).scalars())
        connection.rollback()
    assert {"tags.later", "tags.later.one"} <= found


def test_names_say_what_may_be_added_up_and_every_view_names_its_grain(ledger):
    """`photos` counts distinct photos, and never adds up over categories; `mass` does."""
    columns = ledger.all(COLUMNS)
    assert all("Grain: one row per" in row.grain for row in columns)
    for row in columns:
        if row.column == "photos" and not row.name.startswith("data_quality"):
            assert "distinct photos" in row.words.lower() and "NOT additive over" in row.words, row.name  # noqa: PT018
        if row.column == "mass":
            assert "ADDITIVE over categories that share no label" in row.words, row.name


def test_every_reason_is_in_the_list(ledger):
    told = {row.code: row.reason for row in ledger.all("SELECT code, reason FROM tags.reason")}
    assert told == {int(code): code.name.lower() for code in Code}


# ---- what an analyst is

SETTINGS = """
SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
WHERE datname = current_database() AND setrole = 'pictograph_analyst'::regrole"""


def test_whoever_logs_in_as_the_role_itself_reads_for_a_minute_at_most(ledger):
    wanted = {"default_transaction_read_only=on", "statement_timeout=60s", "search_path=tags"}
    assert set(ledger.database.run(lambda c: c.execute(text(SETTINGS)).scalars().all())) == wanted


def test_a_function_of_an_analyst_runs_with_a_search_path_of_its_own(ledger):
    loose = """SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'tags'::regnamespace AND prosecdef
               AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)"""
    assert ledger.all(loose) == []
    public = """SELECT count(*) FROM pg_proc WHERE pronamespace = 'tags'::regnamespace
                AND has_function_privilege('public', oid, 'EXECUTE')"""
    assert ledger.one(public) == 0


# ---- looking categories up


@pytest.fixture
def imagenet(shelf, endpoints):
    """An analyst's connection to a database with the real taxonomy."""
    with (
        Database(endpoints.database_url, "an analyst", role=Role.ANALYST) as database,
        database.engine.connect() as connection,
    ):
        yield lambda query, **values: connection.execute(text(query), values).all()
        connection.rollback()


@pytest.fixture
def shelf(database):
    from test_policies import ANN, Shelf  # noqa: PLC0415 - its fixtures are not wanted

    filled = Shelf(database)
    filled.fill("ann", ANN)
    return filled


def test_a_category_is_found_by_synset_id_name_or_alias(imagenet):
    (row,) = imagenet("""
        SELECT tags.category_id('n02084071') AS wnid, tags.category_id(' Dog') AS name,
               tags.category_id('canis_familiaris') AS alias, node FROM tags.category WHERE wnid = 'n02084071'""")
    assert row.wnid == row.name == row.alias == row.node
    (below,) = imagenet("SELECT tags.descends_from('pug', 'dog'), tags.descends_from('pug', 'n02121808')")
    assert tuple(below) == (True, False)
    dogs = "SELECT count(*), min(bits) > 3 FROM tags.category WHERE tags.descends_from(node, 'dog')"
    closure = "SELECT count(*) FROM tags.category_closure WHERE ancestor_wnid = 'n02084071'"
    assert imagenet(dogs) == [(imagenet(closure)[0][0], True)]
    assert imagenet("SELECT distance FROM tags.category_closure WHERE ancestor = descendant GROUP BY 1") == [(0,)]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("crane", r"'crane' has 2 senses: n02012849 crane \(.*\); n03126707 crane \(.*\)"),
        ("chihuahuaa", r"There is no category 'chihuahuaa'.*\n.*Near names: [Cc]hihuahua"),
        ("zzz", r"There is no category 'zzz'.*\n.*more general word"),
        ("n00000000", r"There is no category"),
        ("dog|domestic dog", r"There is no category"),
        ("%", r"There is no category '%'"),
        ("d_g", r"There is no category 'd_g'"),
        ("", r"There is no category ''"),
    ],
)
def test_a_word_that_is_no_category_gets_help(imagenet, word, says):
    with pytest.raises(DBAPIError, match=says):
        imagenet("SELECT tags.category_id(:word)", word=word)


def test_no_category_at_all_is_said_so_and_null_is_nobody(imagenet):
    assert imagenet("SELECT tags.category_id(NULL), tags.descends_from('pug', NULL)") == [(None, None)]
    assert imagenet("SELECT * FROM tags.photos_with('dog', NULL)") == []
    with pytest.raises(DBAPIError, match="No category is named"):
        imagenet("SELECT * FROM tags.photos_with(VARIADIC CAST('{}' AS text[]))")


def test_levels_are_the_telling_steps_down_the_display_tree(shelf, imagenet):
    """Those that may be tags: less than 40 % of the labels, and of all with the same labels the one that is shown."""
    taxonomy = shelf.taxonomy
    found = {row.wnid: row for row in imagenet("SELECT wnid, l1, l2, l3, l4 FROM tags.category")}
    assert len(found) == taxonomy.nodes
    for node, synset in enumerate(taxonomy.synsets):
        steps, above = [], node
        while above >= 0:
            if taxonomy.shown_as[above] == above and taxonomy.leaf_count[above] < 400:
                steps.insert(0, taxonomy.synsets[above].name)
            above = int(taxonomy.display_parent[above])
        assert list(found[synset.wnid][1:]) == (steps + [None] * 4)[:4], synset.name
    assert tuple(found["n02110958"]) == ("n02110958", "animal", "vertebrate", "mammal", "placental")  # a pug


# ---- one model unless asked


@pytest.fixture
def two_models(ledger):
    """Two photos of Ann's that the active model calls dogs, and another one cats."""
    job_id = ledger.list([ref("ann/1.jpg"), ref("ann/2.jpg")])
    ledger.tag_all(job_id, "dog")
    other = ledger.register("other")
    again = ledger.list([ref("ann/1.jpg"), ref("ann/2.jpg")], model=other, scope="all")
    for lease in ledger.claim_all(again):
        ledger.merge([ledger.tagged(task, "cat") for task in ledger.tasks(lease)], [lease], model=other)
    return other


HEADLINES = "SELECT DISTINCT headline FROM tags.photo WHERE \"user\" = 'ann'"
WITH_DOG = "SELECT name FROM tags.photos_with('dog') JOIN tags.photo_tag USING (photo_id) WHERE headline"
DOUBLED = """
SELECT (SELECT count(*) FROM tags.photo) AS photos, (SELECT count(*) FROM tags.photo_all_models) AS of_all,
       (SELECT count(*) FROM tags.photo_tag WHERE headline) AS tags,
       (SELECT count(*) FROM tags.photo_tag_all_models WHERE headline) AS tags_of_all,
       (SELECT photos FROM tags.category_total WHERE name = 'animal') AS animals,
       (SELECT sum(photos) FROM tags.category_total_all_models WHERE name = 'animal') AS animals_of_all"""


def test_a_second_model_doubles_nothing_and_is_there_when_asked_for(two_models, ledger, analyst):
    assert tuple(analyst.one(DOUBLED)) == (2, 4, 2, 4, 2, 4)
    assert analyst.one(HEADLINES) == "dog"
    assert [row.name for row in analyst.all(WITH_DOG)] == ["dog", "dog"]
    ledger.database.run(lambda c: promote(c, find_model(c, "other"), by="a test"))
    assert analyst.one(HEADLINES) == "cat"
    assert tuple(analyst.one(DOUBLED)) == (2, 4, 2, 4, 2, 4)
    assert [tuple(row) for row in analyst.all("SELECT model, active, photos FROM tags.model ORDER BY 1")] == [
        ("other", True, 2),
        ("small", False, 2),
    ]


def test_a_photo_that_nobody_has_seen_is_awaited(ledger, analyst):
    ledger.list([ref("ann/1.jpg")])
    assert analyst.one("SELECT outcome FROM tags.photo") == "awaiting"
    counts = {row.measure: row.photos for row in analyst.all("SELECT measure, photos FROM tags.data_quality")}
    assert (counts["photos"], counts["awaiting"], counts["tagged"], counts["incoherence"]) == (1, 1, 0, 0)


# ---- who is not there


def test_users_who_are_being_erased_are_gone_at_once_and_no_error_quotes_them(two_users, ledger, analyst):
    ledger.execute("UPDATE core.app_user SET deleted_at = now() WHERE name = 'ben'")
    for view in ("photo", "photo_all_models", "photo_tag", "user_category", "user_category_monthly", "job_item"):
        assert {row.user for row in analyst.all(f'SELECT DISTINCT "user" FROM tags.{view}')} == {"ann"}, view
    assert len(analyst.all("SELECT * FROM tags.photos_with('dog')")) == 2
    for view, column in (("photo", "key"), ("photo", '"user"'), ("photo_tag", '"user"'), ("job_item", '"user"')):
        with pytest.raises(DataError) as raised:
            analyst.all(f"SELECT * FROM tags.{view} WHERE {column}::int = 1")
        assert "ann" in str(raised.value.orig)  # what the analyst sees anyway
        assert "ben" not in str(raised.value.orig)


def test_a_job_over_one_users_photos_names_that_user_no_more(two_users, ledger, analyst):
    sources = "SELECT source FROM tags.job WHERE source LIKE 'user:%'"
    ledger.execute("UPDATE core.job SET kind = 'ledger', source = 'user:ben'")
    assert {row.source for row in analyst.all(sources)} == {"user:ben"}
    ledger.execute("UPDATE core.app_user SET deleted_at = now() WHERE name = 'ben'")
    assert {row.source for row in analyst.all(sources)} == {"user:"}


def test_gone_photos_are_not_shown(ledger, analyst):
    ledger.tag_all(ledger.list([ref("ann/1.jpg"), ref("ann/2.jpg")]), "dog")
    ledger.list([ref("ann/1.jpg")], allow_mass_delete=True)
    assert [row.key for row in analyst.all("SELECT key FROM tags.photo")] == ["ann/1.jpg"]
    assert analyst.one("SELECT photos FROM tags.user_category WHERE name = 'dog'") == 1


@pytest.fixture
def hidden(ledger):
    """Dogs are shown as animals."""
    job_id = ledger.list([ref(f"ann/{n}.jpg") for n in range(6)])
    (lease,) = ledger.claim_all(job_id)
    tags = ["dog"] * 5 + ["cat"]
    ledger.merge([ledger.tagged(task, tag) for task, tag in zip(ledger.tasks(lease), tags, strict=True)], [lease])
    taxonomy = small_taxonomy()
    wnid = taxonomy.synsets[taxonomy.find("dog")[0]].wnid

    def apply(connection):
        version = policies.add_version(connection, [Rule(wnid=wnid)]).version
        policies.apply(connection, version, taxonomy)

    ledger.database.run(apply)
    yield
    ledger.execute("DELETE FROM core.policy_effect; DELETE FROM core.policy_rule; DELETE FROM core.policy")


def test_the_policy_holds_in_every_view_and_function(hidden, ledger, analyst):
    for view in ledger.all("SELECT viewname FROM pg_views WHERE schemaname = 'tags'"):
        rows = analyst.all(f"SELECT * FROM tags.{view.viewname}")
        assert "'dog'" not in " ".join(map(repr, rows)), view.viewname
        assert ledger.node["dog"] not in {getattr(row, "node", None) for row in rows}, view.viewname
    with pytest.raises(DBAPIError, match="There is no category 'dog'"):
        analyst.all("SELECT * FROM tags.photos_with('dog')")
    assert ledger.node["dog"] not in analyst.one("SELECT tags.nodes_below('animal')")
    assert analyst.one("SELECT tags.near_names('dogg')") is None
    shown = analyst.one("SELECT photos FROM tags.user_category WHERE name = 'animal'")
    assert len(analyst.all("SELECT * FROM tags.photos_with('animal')")) == shown


MONTHS = """
SELECT t.name, t.photos, t.mass, m.photos AS of_months, m.mass AS mass_of_months FROM tags.user_category t
FULL JOIN (SELECT "user", wnid, min(name) AS name, sum(photos) AS photos, sum(mass) AS mass
           FROM tags.user_category_monthly GROUP BY 1, 2) AS m USING ("user", wnid)"""


@pytest.mark.parametrize(
    "rules", [[], ["coarsen gorilla to animal"], ["coarsen dog to domestic animal", "hide chimpanzee"]]
)
def test_months_add_up_to_the_totals_in_both_counts(shelf, imagenet, rules):
    with shelf.database.transaction() as connection:
        connection.execute(
            text("UPDATE core.photo SET taken_at = '2026-01-15'::timestamptz + photo_id % 4 * interval '20 days'")
        )
        if rules:
            policies.add_version(connection, [parse_rule(rule, shelf.taxonomy) for rule in rules])
            policies.apply(connection, 1, shelf.taxonomy)
    rows = imagenet(MONTHS)
    assert len(rows) >= 20
    assert [row for row in rows if (row.photos, row.mass) != (row.of_months, row.mass_of_months)] == []
    assert len(imagenet("SELECT DISTINCT month FROM tags.user_category_monthly")) == 3


# ---- what must never be

FIRST = "(SELECT min(photo_id) FROM core.photo_result)"
BREAK = {
    "parent below child": "UPDATE core.photo_result SET masses[2] = 100 WHERE photo_id = {first}",
    "root not 10000": "UPDATE core.photo_result SET masses[1] = 9999 WHERE photo_id = {first}",
    "total unlike recount": "UPDATE core.user_category SET photos = photos + 1 WHERE node = {dog}",
    "total unlike recount ": "UPDATE core.category_total SET mass = mass + 1 WHERE node = {dog}",
    "duplicate key": """
        ALTER TABLE core.photo_result DROP CONSTRAINT photo_result_pkey;
        INSERT INTO core.photo_result
            (model_id, photo_id, user_id, content_rev, decision_rev, outcome, nodes, masses, tags)
        SELECT model_id, photo_id, user_id, content_rev, 0, 10, '{{}}', '{{}}', '{{}}' FROM core.photo_result
        WHERE photo_id = {first}""",
    "duplicate key ": """
        UPDATE core.photo_result SET nodes = nodes || nodes[1:1], masses = masses || masses[1:1]
        WHERE photo_id = {first}""",
    "tag without category": "UPDATE core.photo_result SET tags = tags || 999::smallint WHERE photo_id = {first}",
    "tag without category ": "UPDATE core.photo_result SET tags = tags || {cup}::smallint WHERE photo_id = {first}",
}


def test_a_healthy_ledger_has_no_incoherence(two_users, analyst):
    assert analyst.all("SELECT * FROM tags.incoherence") == []


@pytest.mark.parametrize("kind", BREAK)
def test_every_incoherence_is_seen(two_users, ledger, kind):
    change = BREAK[kind].format(first=FIRST, dog=ledger.node["dog"], cup=ledger.node["cup"])
    with ledger.database.engine.connect() as connection:
        connection.execute(text(change))
        rows = connection.execute(text("SELECT * FROM tags.incoherence")).all()
        counted = connection.execute(
            text("SELECT photos FROM tags.data_quality WHERE measure = 'incoherence' AND detail = :kind"),
            {"kind": kind.strip()},
        ).scalar_one()
        connection.rollback()
    found = [row for row in rows if row.kind == kind.strip()]
    assert found
    assert counted == len(found)
    assert all(row.detail for row in found)


# ---- barriers that cost no index


@pytest.mark.parametrize(
    ("query", "used"),
    [
        ("SELECT * FROM tags.photo_tag WHERE photo_id = 17", "photo_result_.*_pkey"),
        ("SELECT * FROM tags.photo WHERE photo_id IN (17, 18)", "photo_pkey"),
        (
            "SELECT * FROM tags.photo WHERE photo_id = ANY (ARRAY(SELECT photo_id FROM tags.photos_with('dog')))",
            "photo_pkey",
        ),
        ("SELECT * FROM tags.user_category WHERE \"user\" = 'ann'", "app_user_name_key"),
        ("SELECT * FROM tags.user_category WHERE \"user\" = 'ann'", "user_category_pkey"),
        ("SELECT * FROM tags.user_category_monthly WHERE \"user\" = 'ann'", "Aggregate.*app_user_name_key"),
        ("SELECT * FROM tags.category_total WHERE wnid = 'n00000004'", "category_total_pkey"),
        ("SELECT * FROM tags.category WHERE node = (SELECT tags.category_id('dog'))", "category_pkey"),
        ("SELECT * FROM tags.category WHERE tags.descends_from(node, 'dog')", r"category_pkey.*= ANY \('\{"),
    ],
)
def test_conditions_reach_the_indexes_through_the_barrier(two_users, ledger, query, used):
    """As the owner, who may look at plans; a few rows would be read whole if that were allowed."""
    with ledger.database.engine.connect() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"))
        plan = "\n".join(connection.execute(text(f"EXPLAIN {query}")).scalars())
        connection.rollback()
    assert re.search(used, plan, re.DOTALL), plan


@pytest.mark.parametrize(
    ("query", "left_out"),
    [
        ("SELECT * FROM tags.data_quality WHERE measure <> 'incoherence'", "duplicate key"),
        ("SELECT * FROM tags.data_quality WHERE measure = 'newest job'", "duplicate key"),
        ("SELECT * FROM tags.photo_tag WHERE tags.descends_from(node, 'dog')", "nodes_below"),
    ],
)
def test_what_is_not_asked_for_is_not_worked_out(two_users, ledger, query, left_out):
    """Neither the parts of a view that a condition excludes, nor a word again for every row."""
    plan = "\n".join(row[0] for row in ledger.all(f"EXPLAIN (VERBOSE) {query}"))
    assert left_out not in plan
