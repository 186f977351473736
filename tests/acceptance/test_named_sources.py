"""Photos named by tables, inventories and event messages, and people who consent or do not: by the command line."""

import gzip
import hashlib
import json
from pathlib import Path

from tests.acceptance.conftest import Site

BUCKET = "named-by-others"


def put(site: Site, key: str, body: bytes) -> str:
    site.access.client().put_object(Bucket=BUCKET, Key=key, Body=body)
    return f"s3://{BUCKET}/{key}"


def message(key: str, sequencer: int, name: str = "ObjectCreated:Put") -> str:
    """As `aws sqs receive-message` prints one."""
    told = {"bucket": {"name": BUCKET}, "object": {"key": key, "sequencer": f"{sequencer:018X}"}}
    return json.dumps({"MessageId": "m", "Body": json.dumps({"Records": [{"eventName": name, "s3": told}]})})


def inventory(site: Site, *keys: str) -> str:
    """Of objects that the bucket has, with their ETags and sizes."""
    found = {item["Key"]: item for item in site.access.client().list_objects_v2(Bucket=BUCKET)["Contents"]}
    rows = [f'"{BUCKET}","{key}","{found[key]["Size"]}",{found[key]["ETag"]}' for key in keys]
    table = gzip.compress("\n".join(rows).encode())
    put(site, "inventory/data/1.csv.gz", table)
    file = {"key": "inventory/data/1.csv.gz", "size": len(table), "MD5checksum": hashlib.md5(table).hexdigest()}
    facts = {"destinationBucket": f"arn:aws:s3:::{BUCKET}", "fileFormat": "CSV", "files": [file]}
    manifest = json.dumps({**facts, "fileSchema": "Bucket, Key, Size, ETag"}).encode()
    put(site, "inventory/now/manifest.checksum", hashlib.md5(manifest).hexdigest().encode())
    return put(site, "inventory/now/manifest.json", manifest)


def test_tables_inventories_and_events_are_sources_and_consent_is_asked_for(
    site: Site, photos: list[Path], tmp_path: Path
) -> None:
    names = [f"{user}/{n}{photos[n].suffix}" for n, user in enumerate(("ann", "ann", "ben", "ben"))]
    site.upload(BUCKET, {name: photos[n] for n, name in enumerate(names)})
    table = put(site, "lists/some.csv", f"bucket,key\n{BUCKET},{names[0]}\n{BUCKET}\n{BUCKET},{names[2]}\n".encode())
    assert site.report("users", "consent", "ann", "yes")["consent"] is True
    report = site.tag(table, "--filter", "consent")
    assert (report["counts"]["succeeded"], report["reasons"]["bad_line"], report["reasons"]["no_consent"]) == (1, 1, 1)
    report = site.tag(inventory(site, *names))
    assert (report["counts"]["succeeded"], report["counts"]["skipped_unchanged"]) == (3, 1)

    site.access.client().delete_object(Bucket=BUCKET, Key=names[1])
    photo = put(site, f"cleo/new{photos[4].suffix}", photos[4].read_bytes()).removeprefix(f"s3://{BUCKET}/")
    told = tmp_path / "told.jsonl"
    told.write_text("\n".join((message(names[1], 2, "ObjectRemoved:Delete"), message(photo, 1), "cut off {")))
    report = site.report("ingest-events", told, "--strict", status=1)  # of the message that was cut off
    assert (report["subtracted"], report["counts"]["succeeded"], report["state"]) == (1, 1, "succeeded")
    done = site.run("ingest-events", told)
    assert done.returncode == 0
    assert "2 events said nothing new" in done.stdout
    assert "Message 3 is no JSON" in done.stderr
    assert site.differences() == 0
    owners = {json.loads(line)["user"] for line in site.ask("users", "list", "--json").stdout.splitlines()}
    assert {"ann", "ben", "cleo"} <= owners
