"""Photos with the same bytes cost one inference, and count for every owner: the stream on real servers."""

import io
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from engine_helpers import BODIES, COLOURS, POISON, TUNING, ColourModel, jpeg
from ledger_helpers import ref
from PIL import Image

from pipeline.errors import ServiceDown
from pipeline.ledger import audit, repair
from pipeline.records import Code, ItemState, TakenFrom, WorkState
from pipeline.store import catalogue
from pipeline.store.contents import find
from pipeline.store.session import Database
from workers.decode.process import DecodeUnavailable
from workers.engine.twins import taken_over
from workers.fetch import Fetcher

TAGGED = (ItemState.SUCCEEDED, Code.TAGGED)
COPY = (ItemState.DUPLICATE, Code.SAME_CONTENT)
CORRUPT = (ItemState.FAILED, Code.CORRUPT)
OWNERS = [f"user-{n}" for n in range(5)]


def write_copies(library, body, numbers, prefix=""):
    """Copies of a photo, dealt out to five users."""
    keys = {f"{prefix}{OWNERS[n % 5]}/{n:03d}.jpg": body for n in numbers}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: library.write(key, body), keys))
    return list(keys)


def run(library, model=None, prefix="", **changes):
    """A job over what there is; how its photos ended."""
    job_id = library.list(prefix)
    while library.ledger.shards(job_id, WorkState.PENDING):
        library.stream(model, **changes).run(library.first(job_id))
    return job_id, Counter(library.codes(job_id).values())


def by_owner(library, node="dog"):
    rows = library.ledger.all(
        "SELECT u.name, c.photos, c.mass FROM core.user_category c JOIN core.app_user u USING (user_id) "
        "WHERE node = :node AND photos > 0",
        node=library.ledger.node[node],
    )
    return {row.name: (row.photos, row.mass) for row in rows}


def test_a_hundred_copies_cost_one_inference_and_count_for_every_owner(library):
    model = ColourModel()
    write_copies(library, BODIES["dog"], range(100))
    library.write("user-0/cat.jpg", BODIES["cat"])
    job_id, ends = run(library, model)
    assert ends == {TAGGED: 2, COPY: 99}
    assert model.photos == 2
    assert (library.ledger.job(job_id).tagged, library.ledger.job(job_id).waiting) == (101, 0)
    (mass,) = {mass for _, mass in by_owner(library).values()}
    assert by_owner(library) == dict.fromkeys(OWNERS, (20, mass))  # under twenty keys each: twenty photos
    same = library.ledger.all(
        "SELECT DISTINCT outcome, decision_rev, headline, nodes, masses, tags, sha256 FROM core.photo_result"
    )
    assert len(same) == 2
    assert {row.outcome for row in same} == {Code.TAGGED}
    library.ledger.check()

    write_copies(library, BODIES["dog"], range(100, 130))  # another job, another stream: the ledger knows them
    _, ends = run(library, model)
    assert (ends, model.photos) == ({COPY: 30}, 2)
    assert by_owner(library) == dict.fromkeys(OWNERS, (26, mass * 26 // 20))
    library.ledger.check()
    assert library.ledger.database.run(audit.findings) == ()


def test_copies_of_what_cannot_be_read_fail_for_its_reason(library):
    keys = write_copies(library, BODIES["dog"][:200], range(30))
    job_id, ends = run(library)
    assert ends == {CORRUPT: 30}
    messages = {row.message for row in library.ledger.all("SELECT message FROM core.job_item")}
    assert "The same bytes were met before, and are corrupt." in messages
    assert len(messages) == 2
    library.ledger.check()
    library.write("zoe/later.jpg", BODIES["dog"][:200])
    assert run(library)[1] == {CORRUPT: 1}
    assert library.ledger.one("SELECT count(*) FROM core.photo_result WHERE outcome = 12") == len(keys) + 1
    assert library.ledger.job(job_id).tagged == 0


def test_what_is_asked_for_again_after_it_failed_is_decoded_again(library):
    """A decoder may have learned to read it; a failure that a photo shares with its copies must not keep them there."""
    write_copies(library, BODIES["dog"], range(4))
    run(library)
    registered = library.ledger.registered
    library.ledger.execute("UPDATE core.photo_result SET outcome = 12, nodes = '{}', masses = '{}', tags = '{}'")
    photos = library.ledger.all("SELECT photo_id, sha256 FROM core.photo_result")
    wanted = {row.photo_id: row.sha256 for row in photos}
    assert library.ledger.database.run(lambda c: find(c, registered, wanted)) == {}
    (sha256,) = set(wanted.values())
    others = library.ledger.database.run(lambda c: find(c, registered, {max(wanted) + 1: sha256}))
    assert [known.outcome for known in others.values()] == [Code.CORRUPT]


def test_copies_of_a_photo_that_the_model_cannot_take_are_looked_at_one_by_one(library):
    write_copies(library, jpeg(POISON), range(6))
    write_copies(library, BODIES["dog"], range(10, 14))
    _, ends = run(library)
    assert ends == {(ItemState.FAILED, Code.MODEL_ERROR): 6, TAGGED: 1, COPY: 3}
    library.ledger.check()
    library.write("zoe/later.jpg", jpeg(POISON))
    assert run(library)[1] == {(ItemState.FAILED, Code.MODEL_ERROR): 1}  # it is none of the bytes' reasons


def test_copies_of_a_photo_that_infrastructure_failed_go_their_own_ways(library, monkeypatch):
    write_copies(library, BODIES["dog"], range(20))
    pool, failed = library.decoders, []

    class Failing:
        def decode_for(self, data, take):
            if not failed:
                failed.append(data)
                raise DecodeUnavailable("no child starts")
            return pool.decode_for(data, take)

    library.decoders = Failing()
    job_id = library.list()
    library.stream().run(library.first(job_id))
    ends = Counter(library.codes(job_id).values())
    assert ends.pop((ItemState.RETRY, Code.NONE)) == 1
    assert sum(ends.values()) == 19
    assert set(ends) <= {TAGGED, COPY}
    assert library.bring_back() == 1
    model = ColourModel()
    library.stream(model).run(library.first(job_id))
    assert model.photos == 0  # by now the ledger knows
    assert Counter(library.codes(job_id).values())[COPY] >= 1
    library.ledger.check()


def test_a_stop_hands_copies_back_whose_original_was_not_looked_at(library):
    """What waits for a result is nobody's business to wait for: a stream that is told to stop stops."""
    write_copies(library, BODIES["dog"], range(60))
    stop = threading.Event()
    fetcher = Fetcher.fetch

    def stopping(self, task):
        stop.set()
        return fetcher(self, task)

    job_id = library.list()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Fetcher, "fetch", stopping)
        done = library.stream(stop=stop).run(library.first(job_id))
    assert done == 0
    library.check_nothing_held(job_id)
    model = ColourModel()
    library.run_all(job_id, model)
    assert model.photos == 1
    assert Counter(library.codes(job_id).values()) == {TAGGED: 1, COPY: 59}


def test_a_model_that_breaks_while_copies_wait_leaves_nothing_undone(library):
    write_copies(library, BODIES["dog"], range(40))
    job_id = library.list()

    def breaks(_):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        library.stream(ColourModel(breaks)).run(library.first(job_id))
    library.check_nothing_held(job_id)
    library.forget_the_pause()
    library.run_all(job_id)
    assert Counter(library.codes(job_id).values()) == {TAGGED: 1, COPY: 39}
    library.ledger.check()


def test_two_streams_at_once_count_right_whoever_is_first(library):
    """They may look at the same bytes twice; every photo has one result all the same."""
    write_copies(library, BODIES["dog"], range(60))
    job_id = library.list()
    both = threading.Barrier(2, timeout=30)
    models = [ColourModel(lambda batch: batch == 1 and both.wait()) for _ in range(2)]
    streams = [library.stream(model, tuning=replace(TUNING, shards_ahead=0)) for model in models]
    shards = [row.shard_id for row in library.ledger.shards(job_id)]
    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(lambda pair: pair[0].run(pair[1]), zip(streams, shards, strict=False))) == 60
    ends = Counter(library.codes(job_id).values())
    assert ends[TAGGED] == sum(model.photos for model in models) == 2
    assert ends[COPY] == 58
    assert {photos for photos, _ in by_owner(library).values()} == {12}
    library.ledger.check()


def merged_copy(ledger):
    """A photo that the model has seen and a copy of it, of two users, merged together; the job and what was merged."""
    job_id = ledger.list([ref("ann/1"), ref("ben/2", user="ben")])
    leases = ledger.claim_all(job_id)
    tasks = [task for lease in leases for task in ledger.tasks(lease)]
    original = ledger.tagged(tasks[0], "dog", sha256=b"x" * 32)
    results = [original, taken_over(tasks[1], original)]
    merged = ledger.merge(results, leases)
    assert (merged.stored, merged.closed) == (2, {TAGGED: 1, COPY: 1})
    return job_id, results, leases


def test_a_copy_is_a_duplicate_in_its_job_and_a_tagged_photo_everywhere_else(ledger):
    job_id, results, leases = merged_copy(ledger)
    assert ledger.merge(results, leases).stored == 0  # a repeat is a no-op
    first, second = ledger.all("SELECT outcome, headline, nodes, masses, tags, sha256 FROM core.photo_result")
    assert first == second
    assert first.outcome == Code.TAGGED
    assert ledger.job(job_id).counts == {TAGGED: 1, COPY: 1}
    assert ledger.job(job_id).tagged == 2
    ledger.check()


def test_counts_and_results_of_copies_that_went_missing_are_found_and_mended(ledger):
    job_id, results, _ = merged_copy(ledger)
    copy = results[1].task.photo_id
    ledger.execute(
        "UPDATE core.job_count SET photos = 2 WHERE job_id = :job AND code = :same", job=job_id, same=COPY[1]
    )
    assert "job counts" in found(ledger)
    ledger.database.run(repair.counts)
    assert found(ledger) == set()
    ledger.execute("DELETE FROM core.photo_result WHERE photo_id = :copy", copy=copy)
    assert "lost photos" in found(ledger)
    ledger.database.run(repair.totals)
    ledger.database.run(lambda c: repair.items(c, 512))
    assert ledger.job(job_id).counts == {TAGGED: 1, (ItemState.RETRY, Code.NONE): 1}


def found(ledger):
    """The names of the audits that find something in a ledger in which nobody works."""
    return {finding.audit for finding in ledger.database.run(audit.findings)}


class Forgetful(Database):
    """Does not answer the question for known bytes."""

    def run(self, work):
        if threading.current_thread().name == "recognise":
            raise ServiceDown("away")
        return super().run(work)


def test_a_ledger_that_does_not_say_what_it_knows_costs_an_inference(library):
    model = ColourModel()
    write_copies(library, BODIES["dog"], range(4))
    run(library, model)
    write_copies(library, BODIES["dog"], range(4, 12))
    with Forgetful(library.settings.database_url.get_secret_value(), "forgetful") as database:
        job_id = library.list()
        library.stream(model, database=database).run(library.first(job_id))
    assert Counter(library.codes(job_id).values()) == {TAGGED: 1, COPY: 7}
    assert model.photos == 2


def test_under_another_decision_copies_are_decided_anew_and_not_looked_at(library):
    model = ColourModel()
    write_copies(library, BODIES["dog"], range(3))
    run(library, model)
    ledger, first = library.ledger, library.ledger.registered
    shows_nothing = replace(first.decision, threshold=10_001)
    try:
        stored = ledger.database.run(lambda c: catalogue.store_decision(c, first.model_id, shows_nothing, {}))
        ledger.registered = replace(first, decision=stored)
        library.write("zoe/later.jpg", BODIES["dog"])
        job_id, _ = run(library, model)
        row = ledger.all(
            "SELECT r.outcome, r.decision_rev, r.tags, r.masses FROM core.photo_result r "
            "JOIN core.photo p USING (photo_id) WHERE key LIKE 'zoe/%'"
        )[0]
        assert (row.outcome, row.decision_rev, row.tags) == (Code.ABSTAINED, 2, [])
        assert row.masses[0] == 10_000
        assert library.codes(job_id)["zoe/later.jpg"] == COPY
        assert model.photos == 1
        ledger.check()
    finally:
        ledger.registered = first
        ledger.execute("DELETE FROM core.decision WHERE revision > 1")


def test_the_original_may_go_and_copies_stay_with_their_exif_date(library):
    """Nothing refers to the original; what its EXIF says the copies know too."""
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2019:05:04 10:00:00"  # DateTimeOriginal
    file = io.BytesIO()
    Image.new("RGB", (48, 40), COLOURS["dog"]).save(file, "JPEG", exif=exif)
    for key in ("ann/1.jpg", "ben/2.jpg"):
        library.write(key, file.getvalue())
        run(library)
    rows = library.ledger.all("SELECT taken_at::date::text AS day, taken_from FROM core.photo")
    assert [tuple(row) for row in rows] == [("2019-05-04", TakenFrom.EXIF)] * 2
    library.client.delete_object(Bucket=library.bucket, Key="ann/1.jpg")
    library.list(allow_mass_delete=True)
    assert library.tagged() == {"ben/2.jpg": "dog"}
    library.write("cleo/3.jpg", file.getvalue())
    model = ColourModel()
    run(library, model)
    assert (library.tagged()["cleo/3.jpg"], model.photos) == ("dog", 0)
    library.ledger.check()
