"""Models side by side: promoted and rolled back by one row, compared on the live corpus, dropped while others work."""

import threading
import time
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_helpers import LABELS, NAMES, PARENTS, failed, ref, small_taxonomy, wnid
from sqlalchemy import text

from pipeline.errors import ConfigurationError
from pipeline.ledger import control, ending, jobs
from pipeline.ledger import decide as deciding
from pipeline.ledger.audit import findings
from pipeline.ledger.decide import Decider
from pipeline.ledger.erase import erase
from pipeline.model_change import Axis
from pipeline.profile import profile
from pipeline.records import Annotation, Code
from pipeline.store import dropping, model_diff, promotions, queries
from pipeline.store.catalogue import register_model, registered_model, store_decision
from pipeline.store.model_diff import diff
from pipeline.store.policies import add_version, apply, coarsen_totals
from pipeline.store.roles import see_everybody
from taxonomy.build import from_hypernyms
from taxonomy.decide import Decision
from taxonomy.policy import Rule
from taxonomy.synset import Synset


@pytest.fixture(autouse=True)
def small_is_at_hand(monkeypatch):
    """The small taxonomy can be loaded by its name, as a bundled one can."""
    loaded = {"small": small_taxonomy(), "larger": larger_taxonomy()}
    real = model_diff.graph.load
    monkeypatch.setattr(model_diff.graph, "load", lambda name: loaded.get(name) or real(name))


@pytest.fixture(autouse=True)
def small_is_active(ledger):
    """Each test begins and ends with the small model alone, and active."""
    yield
    ledger.execute("DELETE FROM core.decision WHERE revision > 1")
    ledger.execute("DELETE FROM core.policy_effect; DELETE FROM core.policy_rule; DELETE FROM core.policy")


def known(ledger, name):
    with ledger.database.transaction() as connection:
        return promotions.find_model(connection, name)


def promote(ingest, name, **options):
    return ingest.database.run(lambda c: promotions.promote(c, promotions.find_model(c, name), "ann@desk", **options))


def rollback(ingest):
    return ingest.database.run(lambda c: promotions.rollback(c, "ann@desk", "it was worse"))


def active(ledger):
    with ledger.database.transaction() as connection:
        return queries.active_model(connection).name


def photos(n=6, per_user=2):
    return [ref(f"u{k // per_user}/{k}.jpg", user=f"u{k // per_user}") for k in range(n)]


def tag(ingest, worker, refs, tags, model=None):
    """List `refs` for the model and tag them, in the order of their keys; None: cannot be read."""
    job_id = ingest.list(refs, model=model, whole=False)
    tasks = [(lease, task) for lease in worker.claim_all(job_id) for task in worker.tasks(lease)]
    tasks.sort(key=lambda pair: pair[1].key)
    for (lease, task), tag in zip(tasks, tags, strict=True):
        result = failed(task, Code.CORRUPT, "cut off") if tag is None else worker.tagged(task, *tag)
        worker.merge([result], [lease], model=model)
    ingest.database.run(ending.finish_jobs)
    return job_id


@pytest.fixture
def other(ledger):
    """A second model, without results."""
    return ledger.register("other")


@pytest.fixture
def both(ledger, ingest, worker, other):
    """Six photos of three users, tagged by both models."""
    tag(ingest, worker, photos(), [("dog",), ("dog",), ("dog",), ("cat",), ("cup",), ()])
    tag(ingest, worker, photos(), [("dog",), ("cat",), ("car",), ("cat",), ("cup",), ("cup",)], model=other)


def compare(ledger, base="small", head="other", most=20):
    with ledger.database.transaction() as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        return diff(connection, promotions.find_model(connection, base), promotions.find_model(connection, head), most)


# ---- promote and roll back


def test_a_promotion_is_one_row_and_a_rollback_one_more(ledger, ingest, both):
    rows = ledger.one("SELECT count(*) FROM core.promotion")
    done = promote(ingest, "other", reason="better cats")
    assert (done.changed, done.model.name, done.before.name, done.coverage.share) == (True, "other", "small", 1.0)
    assert active(ledger) == "other"
    assert promote(ingest, "other").changed is False
    back = rollback(ingest)
    assert (back.model.name, back.before.name) == ("small", "other")
    assert active(ledger) == "small"
    assert ledger.one("SELECT count(*) FROM core.promotion") == rows + 2
    newest = ledger.one(
        "SELECT promoted_by, rolled_back, reason FROM core.promotion ORDER BY promotion_id DESC LIMIT 1"
    )
    assert tuple(newest) == ("ann@desk", True, "it was worse")
    with pytest.raises(ConfigurationError, match="No model was active before this one that still has results"):
        rollback(ingest)


def test_a_promotion_shows_to_each_reader_whole_or_not_at_all(ledger, ingest, both):
    """Whoever reads names, totals and categories of the active model sees one model in all of them."""
    models = {name: known(ledger, name).model_id for name in ("small", "other")}
    stop, seen, odd = threading.Event(), set(), []

    def read():
        while not stop.is_set():
            with ledger.database.transaction() as connection:
                see_everybody(connection)
                model = queries.active_model(connection)
                totals = queries.user_profile_totals(connection, model.model_id, "u1").totals
                dogs = sum(total.photos for total in totals if total.column == ledger.taxonomy.node(wnid("dog")))
            seen.add(model.name)
            if (model.model_id, dogs) not in {(models["small"], 1), (models["other"], 0)}:
                odd.append((model, dogs))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    deadline = time.monotonic() + 60
    while len(seen) < 2 and time.monotonic() < deadline:
        promote(ingest, "other")
        promote(ingest, "small")
    stop.set()
    for reader in readers:
        reader.join()
    assert seen == {"small", "other"}
    assert odd == []


def test_what_covers_too_little_is_promoted_on_request_only(ledger, ingest, worker, other):
    tag(ingest, worker, photos(), [("dog",)] * 6)
    with pytest.raises(ConfigurationError, match="has no results; `pictograph models shadow other` tags"):
        promote(ingest, "other", partial=True)
    tag(ingest, worker, photos(4), [("dog",), ("dog",), ("dog",), None], model=other)  # the fourth is no help either
    with pytest.raises(ConfigurationError, match=r"seen 3 of the 6 photos that the active one has \(50.0 %, and 99 %"):
        promote(ingest, "other")
    assert promote(ingest, "other", partial=True).coverage.share == 0.5
    ledger.execute("UPDATE core.photo SET content_rev = 2 WHERE key = 'u0/0.jpg'")  # seen as it was is not seen
    done = rollback(ingest)
    assert (done.coverage.base, done.coverage.both) == (2, 2)


def test_names_that_nobody_knows_get_the_nearest_one(ledger, both):
    with pytest.raises(ConfigurationError, match=r"The ledger has no model 'othr'; did you mean other\?"):
        known(ledger, "othr")
    with pytest.raises(ConfigurationError, match="no model 'zzz'; `pictograph models list` shows them"):
        known(ledger, "zzz")


def test_of_several_models_with_one_name_the_fingerprint_tells(ledger):
    old = ledger.register("twice")
    newer = ledger.database.run(lambda c: register_model(c, "twice", b"\7" * 32, ledger.taxonomy, Decision()))
    assert known(ledger, "twice").model_id == newer.model_id
    label = "twice@" + b"twic".hex()
    assert known(ledger, label).model_id == old.model_id
    assert known(ledger, label).label == label
    with ledger.database.transaction() as connection:
        here = promotions.find_model(connection, "twice", b"twice".ljust(32, b"\0").hex())
        assert here.model_id == old.model_id
        with pytest.raises(ConfigurationError, match="no model 'twice@ff'"):
            promotions.find_model(connection, "twice@ff")


# ---- the difference


def test_the_parts_of_a_difference_add_up(ledger, both):
    found = compare(ledger)
    assert (found.coverage.photos, found.coverage.base, found.coverage.both, found.photos) == (6, 6, 6, 6)
    by_name = {each.name: each for each in found.categories}
    assert all(each.base_photos + each.gained - each.lost == each.head_photos for each in found.categories)
    assert {n: (c.base_photos, c.gained, c.lost, c.head_photos) for n, c in by_name.items()} == {
        "dog": (3, 0, 2, 1),
        "cat": (1, 1, 0, 2),
        "car": (0, 1, 0, 1),
        "cup": (1, 1, 0, 2),
        "animal": (4, 0, 1, 3),
        "thing": (1, 2, 0, 3),
    }
    assert by_name["animal"].head_mass - by_name["animal"].base_mass == pytest.approx(-0.9)
    moved = {name: by_name[name].head_mass - by_name[name].base_mass for name in LABELS}
    assert moved["dog"] + moved["cat"] == pytest.approx(by_name["animal"].head_mass - by_name["animal"].base_mass)
    assert sum(sum(row.values()) for row in found.outcomes.values()) == found.photos
    assert found.outcomes["abstained"] == {"tagged": 1, "abstained": 0, "failed": 0}
    assert found.outcomes["tagged"] == {"tagged": 5, "abstained": 0, "failed": 0}
    assert found.retagged == 3
    sizes = [each.gained + each.lost for each in found.categories]
    assert sizes == sorted(sizes, reverse=True)
    assert by_name["dog"].depth == 2
    assert found.same_taxonomy


def test_photos_that_move_furthest_come_first(ledger, both):
    found = compare(ledger)
    assert [(each.key, round(each.moved, 4), each.base, each.head) for each in found.moved] == [
        ("u1/2.jpg", 3.6, "dog", "car"),  # 0.9 of it goes up two edges and down two
        ("u0/1.jpg", 1.8, "dog", "cat"),  # of equals the older one
        ("u2/5.jpg", 1.8, None, "cup"),
    ]
    assert [each.key for each in compare(ledger, most=1).moved] == ["u1/2.jpg"]


def test_users_are_compared_by_what_their_pages_show(ledger, both):
    found = compare(ledger).users
    shown = {}
    with ledger.database.transaction() as connection:
        for name in ("small", "other"):
            model_id = promotions.find_model(connection, name).model_id
            for user in ("u0", "u1", "u2"):
                totals = queries.user_profile_totals(connection, model_id, user).totals
                cells = profile(totals, ledger.taxonomy).cells
                shown[name, user] = {cell.name for cell in cells if cell.kind == "category"}
    changed = {user for user in ("u0", "u1", "u2") if shown["small", user] != shown["other", user]}
    assert changed == {"u0", "u1"}
    assert (found.users, found.changed, found.share) == (3, 2, pytest.approx(2 / 3))
    assert {each.user for each in found.most} == changed
    for each in found.most:
        assert (set(each.base), set(each.head)) == (shown["small", each.user], shown["other", each.user])
        assert each.replaced >= 1
        assert 0 < each.moved <= 1


def test_a_model_does_not_differ_from_itself(ledger, both):
    found = compare(ledger, head="small")
    assert (found.categories, found.moved, found.retagged) == ((), (), 0)
    assert (found.users.users, found.users.changed, found.users.most) == (3, 0, ())


def test_only_what_both_have_seen_as_it_is_now_counts(ledger, ingest, worker, other):
    tag(ingest, worker, photos(), [("dog",)] * 6)
    tag(ingest, worker, photos(4), [("cat",), ("cat",), ("dog",), None], model=other)
    ledger.execute("UPDATE core.photo SET content_rev = 2 WHERE key = 'u0/0.jpg'")
    ledger.execute("UPDATE core.photo SET gone_at = now() WHERE key = 'u0/1.jpg'")
    found = compare(ledger)
    assert (found.coverage.photos, found.coverage.base, found.coverage.head, found.coverage.both) == (5, 4, 1, 1)
    assert found.photos == 2
    assert found.outcomes["tagged"] == {"tagged": 1, "abstained": 0, "failed": 1}
    (dog,) = [each for each in found.categories if each.name == "dog"]
    assert (dog.base_photos, dog.lost, dog.head_photos) == (2, 1, 1)
    assert found.retagged == 0


def larger_taxonomy():
    """The small one with wolves among the animals, and without cups: another model of other labels."""
    parents = {name: above for name, above in PARENTS.items() if name != "cup"} | {"wolf": ["animal"]}
    ids = {name: wnid(name) if name in NAMES else "n00009999" for name in parents}
    synsets = {
        ids[name]: Synset(wnid=ids[name], lemmas=(name,), name=name, gloss="", subject="noun.Tops", uses=1)
        for name in parents
    }
    hypernyms = {ids[name]: [ids[parent] for parent in above] for name, above in parents.items()}
    labels = [ids[name] for name in ("dog", "cat", "wolf", "car")]
    return from_hypernyms(name="larger", labels=labels, synsets=synsets, hypernyms=hypernyms)


def test_two_taxonomies_are_compared_by_what_both_have(ledger, ingest, worker):
    tag(ingest, worker, photos(2), [("dog",), ("cup",)])
    larger = larger_taxonomy()
    registered = ledger.database.run(lambda c: register_model(c, "larger", b"\5" * 32, larger, Decision()))
    wolf = ledger.one("SELECT node FROM core.category WHERE wnid = 'n00009999'")
    note = Annotation(
        nodes=(ledger.node["entity"], ledger.node["animal"], wolf),
        masses=(10_000, 9_000, 9_000),
        tags=(wolf, ledger.node["animal"]),
        headline=wolf,
    )
    for lease in worker.claim_all(ingest.list(photos(2), model=registered, whole=False)):
        results = [replace(worker.tagged(task, "dog"), annotation=note) for task in worker.tasks(lease)]
        worker.merge(results, [lease], model=registered)
    found = compare(ledger, head="larger")
    assert not found.same_taxonomy
    both = {synset.wnid for synset in ledger.taxonomy.synsets} & {synset.wnid for synset in larger.synsets}
    assert found.categories_compared == len(both)
    assert (found.only_base, found.only_head) == (ledger.taxonomy.nodes - len(both), larger.nodes - len(both))
    by_name = {each.name: each for each in found.categories}
    assert "cup" not in by_name
    assert "wolf" not in by_name
    assert (by_name["dog"].lost, by_name["animal"].gained) == (1, 1)
    assert found.moved[0].head == "wolf"
    assert len(Axis.of(larger, registered.nodes, larger, registered.nodes).wnids) == larger.nodes


def test_a_policy_holds_for_a_difference_too(ledger, both):
    with ledger.database.transaction() as connection:
        version = add_version(connection, [Rule(wnid=wnid("dog"), target=wnid("entity"))])
        policy = apply(connection, version.version, ledger.taxonomy)
    found = compare(ledger)
    assert found.hidden >= 1
    hidden = {ledger.taxonomy.synsets[node].name for node in policy.hidden if node < ledger.taxonomy.nodes}
    assert "dog" in hidden
    assert hidden.isdisjoint({each.name for each in found.categories})
    assert hidden.isdisjoint({each.base for each in found.moved} | {each.head for each in found.moved})
    for each in found.users.most:
        assert hidden.isdisjoint({*each.base, *each.head})
    with ledger.database.transaction() as connection:
        totals = queries.user_profile_totals(connection, ledger.registered.model_id, "u0").totals
    assert coarsen_totals(totals, policy) != totals


# ---- dropping


def drop(ledger, name):
    return dropping.drop(ledger.database, known(ledger, name))


def test_a_dropped_model_leaves_nothing_and_may_come_back(ledger, ingest, worker, both, other):
    assert drop(ledger, "other") > 0
    assert known(ledger, "other").dropped_at is not None
    for table in ("user_category", "category_total", "photo_result"):
        assert ledger.one(f"SELECT count(*) FROM core.{table} WHERE model_id = :m", m=other.model_id) == 0
    assert ledger.one("SELECT to_regclass(:name)", name=f"core.photo_result_{other.model_id}") is None
    assert ledger.photos_with("dog") == (3, 27_000)
    with ledger.database.transaction() as connection:
        assert findings(connection) == ()
    for refused, sentence in (
        (lambda: promote(ingest, "other"), "was dropped at .* registers it again"),
        (lambda: compare(ledger), "was dropped, and its results with it"),
        (
            lambda: ingest.database.run(lambda c: registered_model(c, "other", b"other".ljust(32, b"\0"))),
            "not registered",
        ),
    ):
        with pytest.raises(ConfigurationError, match=sentence):
            refused()
    assert drop(ledger, "other") == 0  # again does no harm
    assert ledger.register("other").model_id == other.model_id
    assert known(ledger, "other").dropped_at is None
    tag(ingest, worker, photos(2), [("cat",), ("cat",)], model=other)
    assert ledger.photos_with("cat") == (3, 27_000)
    with ledger.database.transaction() as connection:
        assert findings(connection) == ()


def test_a_job_of_a_dropped_model_cannot_be_tried_again(ledger, ingest, both, other):
    job_id = ledger.one("SELECT max(job_id) FROM core.job WHERE model_id = :model", model=other.model_id)
    assert drop(ledger, "other") > 0
    again = control.retry_of(ledger.job(job_id), failed=1)
    with pytest.raises(ConfigurationError, match="was dropped, and no job can work with it"):
        ingest.database.run(lambda c: jobs.submit(c, again, other.model_id))
    assert ledger.one("SELECT max(job_id) FROM core.job WHERE model_id = :model", model=other.model_id) == job_id


def test_what_is_active_or_busy_is_not_dropped(ledger, ingest, both, other):
    with pytest.raises(ConfigurationError, match="is active: people see its results"):
        drop(ledger, "small")
    job_id = ingest.submit(model=other)
    with pytest.raises(ConfigurationError, match=rf"has jobs that go on \({job_id}\)"):
        drop(ledger, "other")
    ledger.database.run(lambda c: ending.fail(c, job_id, "enough"))
    promote(ingest, "other")
    rollback(ingest)
    assert drop(ledger, "other") > 0


def test_a_drop_waits_for_merges_of_others_and_lets_them_pass(ledger, ingest, worker, both, other):
    """One session has the results locked for a while; merges of the active model go on while the drop tries."""
    lease = worker.claim_all(ingest.list([*photos(), ref("u9/9.jpg", user="u9")], whole=False))[0]
    (task,) = worker.tasks(lease)
    with ledger.database.engine.connect() as holding:
        holding.execute(text("SELECT count(*) FROM core.photo_result"))
        dropper = threading.Thread(target=drop, args=(ledger, "other"))
        dropper.start()
        deadline = time.monotonic() + 60
        while known(ledger, "other").dropped_at is None:
            assert time.monotonic() < deadline
        worker.merge([worker.tagged(task, "dog")], [lease])
        assert dropper.is_alive()
        holding.rollback()
    dropper.join()
    assert ledger.one("SELECT to_regclass(:name)", name=f"core.photo_result_{other.model_id}") is None
    assert ledger.photos_with("dog") == (4, 36_000)
    ledger.check()


def test_a_drop_that_was_broken_off_is_completed(ledger, ingest, both, other, monkeypatch):
    monkeypatch.setattr(dropping, "BATCH_ROWS", 3)
    ledger.database.run(lambda c: dropping.begin(c, known(ledger, "other")))
    with ledger.database.transaction() as connection:
        assert findings(connection) == ()  # what is left is nobody's
    dropping.drop_partition(ledger.database, other.model_id)
    with ledger.database.transaction() as connection:
        assert findings(connection) == ()
    with pytest.raises(ConfigurationError, match="being dropped, or that was broken off"):
        ledger.register("other")
    receipt = erase(ledger.database, "u0")  # an erasure meanwhile leaves nothing, though totals of the model are left
    assert receipt.finished_at is not None
    assert drop(ledger, "other") > 3
    ledger.register("other")
    ledger.check()


# ---- whatever is done in whatever order

STEPS = st.lists(
    st.sampled_from(["tag", "shadow", "decide", "promote", "rollback", "drop", "change"]), min_size=3, max_size=9
)


@settings(max_examples=8, deadline=None)
@given(steps=STEPS, seed=st.integers(0, 99))
def test_after_any_sequence_totals_equal_a_recount(connections, steps, seed):
    from ledger_helpers import Ledger, prepare  # noqa: PLC0415 - a ledger per example

    prepare(connections)
    ledger = Ledger(connections)
    ledger.execute("DELETE FROM core.decision WHERE revision > 1")
    ledger.register("other")
    for number, step in enumerate(steps):
        _STEPS[step](ledger, seed + number)
        ledger.check()
        with connections.transaction() as connection:
            assert promotions.active(connection) is not None
    with connections.transaction() as connection:
        assert findings(connection, quiet=False) == ()


def _tag(ledger, seed, name="small"):
    model = ledger.register(name)
    tags = [(LABELS[(seed * 3 + k) % 4],) if (seed + k) % 5 else () for k in range(6)]
    job_id = ledger.list(photos(), model=model, whole=False)
    for lease in ledger.claim_all(job_id):
        mine = [ledger.tagged(task, *tag) for task, tag in zip(ledger.tasks(lease), tags, strict=False)]
        ledger.merge(mine, [lease], model=model)
    ledger.database.run(ending.finish_jobs)


def _decide(ledger, seed):
    with ledger.database.transaction() as connection:
        model = promotions.active(connection)
        store_decision(connection, model.model_id, Decision(threshold=3_000 + 700 * (seed % 10)), {"of": "a test"})
        job_id = jobs.submit(connection, deciding.request(connection, model.model_id, None), model.model_id)
    lease = ledger.claim_range(job_id)
    job, cursor, last = ledger.job(job_id), None, False
    decider = ledger.database.run(lambda c: Decider.of(c, job, ledger.taxonomy))
    while not last:
        step = ledger.database.run(lambda c, at=cursor: decider.page(c, job, lease, at, 4))
        cursor, last = step.cursor, step.last
    ledger.finish(job_id, lease)
    ledger.database.run(ending.finish_jobs)


def _refusable(what):
    def do(ledger, seed):
        with suppress(ConfigurationError):  # it is active, or has no results: also a sequence that happens
            what(ledger)

    return do


def _change(ledger, seed):
    ledger.execute("UPDATE core.photo SET content_rev = content_rev + 1 WHERE photo_id % 2 = :odd", odd=seed % 2)
    _tag(ledger, seed + 1)


_STEPS = {
    "tag": _tag,
    "shadow": lambda ledger, seed: _tag(ledger, seed, "other"),
    "decide": _decide,
    "promote": _refusable(lambda ledger: promote(ledger, "other", partial=True)),
    "rollback": _refusable(rollback),
    "drop": _refusable(lambda ledger: drop(ledger, "other")),
    "change": _change,
}
