"""`pictograph tag` as operators use it: asked first, then run, run again, and over what the ledger knows."""

from pathlib import Path

from tests.acceptance.conftest import Site


def sizes(site: Site) -> dict[str, int]:
    tables = ("photo", "app_user", "bucket", "job", "list_range", "job_item", "job_line", "photo_result")
    return {table: site.rows(f"SELECT count(*) FROM core.{table}")[0][0] for table in tables}


def test_a_job_is_forecast_chosen_repeated_and_taken_from_the_ledger(site: Site, photos: list[Path]):
    site.upload("options", {f"{user}/{n}.jpg": photos[n] for user in ("ann", "ben") for n in range(3)})
    before = sizes(site)
    asked = site.report("tag", "s3://options/", "--dry-run")
    assert (asked["listed"], asked["new"], asked["due"], asked["seconds"]) == (6, 6, 6, None)
    assert sizes(site) == before
    chosen = ("tag", "s3://options/", "--filter", "user!=ben", "--filter", "prefix=ann/", "--idempotency-key", "night")
    first = site.tag(*chosen[1:])
    assert (first["counts"]["total"], first["counts"]["succeeded"], first["reasons"]["not_chosen"]) == (6, 3, 3)
    again = site.report(*chosen)
    assert (again["job"], again["counts"]) == (first["job"], first["counts"])
    other = site.ask(*chosen, "--priority", "3")
    assert (other.returncode, f"which is job {first['job']}" in other.stderr) == (2, True)

    asked = site.report("tag", "s3://options/", "--dry-run")
    assert (asked["new"], asked["unchanged"], asked["due"], asked["gone"]) == (3, 3, 3, 0)
    assert asked["pace"]["jobs"] == [first["job"]]
    assert asked["seconds"] > 0

    anew = site.tag("ledger:user:ann", "--scope", "all")
    assert (anew["counts"]["total"], anew["counts"]["succeeded"]) == (3, 3)
