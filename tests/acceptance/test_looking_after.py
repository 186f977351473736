"""Looking after a ledger from the command line: pausing, asking why, auditing and repairing."""

import json
import subprocess

import pytest

from tests.acceptance.conftest import COMMAND, wait_for


@pytest.fixture
def submitted(site, many):
    """A job that has only just been submitted."""
    return str(site.report("tag", many, "--no-wait")["job"])


def state(site, job_id):
    return site.report("jobs", "show", job_id)["state"]


def test_a_job_rests_and_goes_on(site, submitted):
    paused = site.report("jobs", "pause", submitted, "--by", "ann")
    assert paused["state"] in ("pausing", "paused")
    assert (paused["paused_by"], paused["changed"]) == ("ann", True)
    wait_for(lambda: state(site, submitted) == "paused")
    assert "was paused before, by ann at" in site.ask("jobs", "pause", submitted).stdout
    why = site.report("jobs", "why", submitted)
    assert (why["job"], why["reason"], why["moves"]) == (int(submitted), "paused", False)
    assert why["sentence"] == site.ask("jobs", "why", submitted).stdout.strip()
    assert f"`pictograph jobs resume {submitted}`" in why["sentence"]
    assert " paused " in site.ask("jobs", "list", "--limit", "1").stdout
    assert site.ask("jobs", "resume", submitted).stdout == f"Job {submitted} goes on.\n"
    wait_for(lambda: state(site, submitted) == "succeeded")
    assert site.report("jobs", "show", submitted)["counts"]["total"] == 320
    assert site.report("jobs", "why", submitted)["reason"] == "ended"
    refused = site.ask("jobs", "pause", submitted)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "has ended (succeeded)" in refused.stderr


def test_who_watches_a_job_is_told_that_it_rests(site, many, tmp_path):
    said = tmp_path / "said"
    newest = "SELECT coalesce(max(job_id), 0) FROM core.job"
    before = site.rows(newest)[0][0]
    with said.open("wb") as output:
        watching = subprocess.Popen(
            [*COMMAND, "tag", str(many), "--json"], env=site.env, stdout=subprocess.PIPE, stderr=output
        )
    wait_for(lambda: site.rows(newest)[0][0] > before)
    job_id = site.rows(newest)[0][0]
    site.report("jobs", "pause", job_id)
    wait_for(lambda: f"Job {job_id} was paused by " in said.read_text())
    site.report("jobs", "resume", job_id)
    printed, _ = watching.communicate(timeout=240)
    assert watching.returncode == 0
    assert json.loads(printed)["counts"]["total"] == 320
    assert f"Job {job_id} goes on." in said.read_text()


def test_a_job_that_nobody_knows(site):
    for command in ("why", "pause", "resume"):
        done = site.ask("jobs", command, "999999")
        assert (done.returncode, done.stdout) == (2, "")
        assert "There is no job 999999" in done.stderr


def test_what_is_found_names_the_command_that_repairs_it(site, photos, tmp_path):
    source = tmp_path / "ann"
    source.mkdir()
    for n, path in enumerate(photos[:5]):
        (source / f"{n}{path.suffix}").write_bytes(path.read_bytes())
    site.tag(tmp_path)
    site.new_bucket("looked-after")
    try:
        sound = site.run("doctor", "--deep", s3_bucket="looked-after")
        assert sound.returncode == 0, sound.stdout
        assert "audits of" in sound.stdout
        site.database.run(lambda c: c.exec_driver_sql("UPDATE core.user_category SET mass = mass + 1"))
        done = site.run("doctor", "--deep", "--json", s3_bucket="looked-after")
        assert done.returncode == 1
        (finding,) = [one for one in map(json.loads, done.stdout.splitlines()) if not one["ok"]]
        assert finding["what"] == "user totals"
        assert finding["count"] > len(finding["ids"]) == 5
        assert finding["repair"] == "pictograph repair totals"
        repaired = site.run(*finding["repair"].split()[1:])
        assert repaired.stdout == f"Repaired: {finding['count']:,} rows of totals.\n"
        assert site.ask("repair", "totals").stdout == "Nothing was wrong.\n"
    finally:
        site.access.client().delete_bucket(Bucket="looked-after")


def test_an_operator_has_the_last_word(site, many, tmp_path):
    """Limits, a pause that ends by itself, an urgent job, an end for good, and another try of what failed."""
    queue = site.report("queues")["queue"]
    assert queue == "all"
    (annotate,) = [line.split()[0] for line in site.ask("queues").stdout.splitlines() if line.startswith("annotate.")]
    assert site.report("queues", "limit", annotate, "0", "--by", "ann")["most"] == 0
    job_id = str(site.report("tag", many, "--scope", "all", "--no-wait")["job"])
    why = wait_for(lambda: (said := site.report("jobs", "why", job_id))["reason"] == "limited" and said)
    assert f"queue {annotate} may have 0 shards in hand at once and has no room, as ann set it" in why["sentence"]

    paused = site.report("jobs", "pause", job_id, "--for", "1s", "--reason", "the store is being moved", "--by", "ann")
    assert (paused["paused_by"], paused["pause_reason"]) == ("ann", "the store is being moved")
    wait_for(lambda: state(site, job_id) == "running")  # a redriver lifts it
    assert site.report("jobs", "priority", job_id, "50")["priority"] == 50
    assert site.rows("SELECT DISTINCT priority FROM core.shard WHERE job_id = :job", job=int(job_id)) == [(50,)]

    cancelled = site.report("jobs", "cancel", job_id, "--by", "bob")
    assert (cancelled["state"], cancelled["cancelled_by"]) == ("cancelled", "bob")
    assert (cancelled["counts"]["total"], cancelled["counts"]["cancelled"]) == (320, 320)
    assert site.ask("queues", "unlimit", annotate).stdout == f"The limit of queue {annotate} is lifted.\n"
    assert "cancelled by bob" in site.ask("jobs", "show", job_id).stdout
    assert site.differences() == 0
    for command in (("cancel",), ("pause",), ("resume",), ("priority", "1")):
        refused = site.ask("jobs", command[0], job_id, *command[1:])
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "has ended (cancelled)" in refused.stderr
    assert "has no photo that failed" in site.ask("jobs", "retry", job_id).stderr

    folder = tmp_path / "broken" / "ann"
    folder.mkdir(parents=True)
    for n in range(3):
        (folder / f"{n}.jpg").write_bytes(b"\xff\xd8\xff" + bytes([n]) * 100)
    first = site.tag(folder.parent)
    assert first["reasons"] == {"corrupt": 3}
    none = site.report("jobs", "retry", first["job"])
    assert none["counts"]["total"] == 0  # the same bytes are as corrupt as they were
    again = site.report("jobs", "retry", first["job"], "--all")
    assert (again["counts"]["total"], again["reasons"]) == (3, {"corrupt": 3})
    assert f"tries again what failed in job {first['job']}" in site.ask("jobs", "show", again["job"]).stdout
