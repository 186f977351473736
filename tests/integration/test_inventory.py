"""S3 Inventories as Amazon lays them out, in S3 and copied to a folder: believed only where their sums are right."""

import csv
import gzip
import hashlib
import io
import json
from urllib.parse import quote_plus

import pytest

from pipeline.errors import SourceError
from pipeline.records import Code
from pipeline.sources.allowed import Allowed, Place
from pipeline.sources.inventory import Inventory
from pipeline.sources.opening import kind_of, open_source
from pipeline.sources.s3 import create_bucket
from pipeline.sources.user_rule import UserRule

RULE = UserRule.parse("{user}/{photo}")
BUCKET = "inventories"
SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
AT = "2026-01-02T03:04:05.000Z"


def md5(data):
    return hashlib.md5(data).hexdigest()


def row(key, *, bucket="photos", version="", latest="true", marker="false", size="7", time=AT, etag="e1"):
    return [bucket, quote_plus(key), version, latest, marker, size, time, etag, "STANDARD"]


class Made:
    """An inventory that can be put anywhere, and damaged."""

    def __init__(self, *tables, schema=SCHEMA, form="CSV"):
        self.tables = {f"in/data/{n}.csv.gz": gzip.compress(self._text(rows)) for n, rows in enumerate(tables)}
        self.facts = {
            "sourceBucket": "photos",
            "destinationBucket": f"arn:aws:s3:::{BUCKET}",
            "version": "2016-11-30",
            "fileFormat": form,
            "fileSchema": schema,
            "files": [{"key": key, "size": len(d), "MD5checksum": md5(d)} for key, d in self.tables.items()],
        }
        self.checksum = None

    @staticmethod
    def _text(rows):
        text = io.StringIO()
        csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
        return text.getvalue().encode()

    def parts(self):
        manifest = json.dumps(self.facts).encode()
        folder = "in/2026-01-02T00-00Z/"
        checksum = (self.checksum or md5(manifest)).encode()
        return {**self.tables, folder + "manifest.json": manifest, folder + "manifest.checksum": checksum}

    def in_s3(self, client):
        for key, data in self.parts().items():
            client.put_object(Bucket=BUCKET, Key=key, Body=data)
        return f"s3://{BUCKET}/in/2026-01-02T00-00Z/manifest.json"

    def in_folder(self, folder):
        for key, data in self.parts().items():
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return str(folder / "in/2026-01-02T00-00Z/manifest.json")


@pytest.fixture(scope="module")
def client(access):
    create_bucket(access, BUCKET)
    found = access.client()
    yield found
    found.delete_bucket(Bucket=BUCKET)


@pytest.fixture(params=["s3", "folder"])
def placed(request, client, tmp_path):
    """Puts an inventory somewhere; returns its manifest's place."""
    return lambda made: made.in_s3(client) if request.param == "s3" else made.in_folder(tmp_path)


def listed(source, limit=100, cursor=None):
    refs, refused, pages = [], [], []
    while not pages or not pages[-1].last:
        pages.append(source.page(pages[-1].cursor if pages else cursor, limit))
        refs += pages[-1].refs
        refused += [*pages[-1].refusals, *pages[-1].gone]
    return refs, refused, pages


FIRST = [
    row("ann/1 +ü.jpg"),
    row("ann/old.jpg", latest="false", version="v1"),
    row("ann/gone.jpg", marker="true", size="", etag=""),
    row("top.jpg"),
    row("ann/2.jpg", version="v2", size="0"),
]
SECOND = [row("ben/%FF.jpg"), row("ben/1.jpg", size="many"), row("ben/2.jpg"), row("ben/3.jpg")]


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_what_is_newest_is_listed_without_asking_and_goes_on_anywhere(access, placed, limit):
    place = placed(Made(FIRST, [], [[]], SECOND))
    assert kind_of(place) == ("inventory", place)
    source = open_source("inventory", place, RULE, access)
    source.check()
    refs, refused, pages = listed(source, limit)  # nobody has a bucket "photos": asking would find nothing
    assert [(ref.key, ref.size, ref.etag, ref.line) for ref in refs] == [
        ("ann/1 +ü.jpg", 7, "e1", 1),
        ("ann/2.jpg", 0, "e1", 5),
        ("ben/%FF.jpg", 7, "e1", 6),
        ("ben/2.jpg", 7, "e1", 8),
        ("ben/3.jpg", 7, "e1", 9),
    ]
    assert {ref.version_id for ref in refs} == {None}  # read as they are, not as they were
    assert {ref.modified_at.isoformat() for ref in refs} == {"2026-01-02T03:04:05+00:00"}
    assert [(r.name, r.code) for r in refused] == [("row 4", Code.NO_USER), ("row 7", Code.BAD_LINE)]
    assert source.covered(None, pages[0]) is None
    for at, page in list(enumerate(pages[:-1]))[:: len(pages) // 3 or 1]:
        rest, _, _ = listed(open_source("inventory", place, RULE, access), limit, page.cursor)
        assert [r.line for r in rest] == [r.line for p in pages[at + 1 :] for r in p.refs]


def test_a_key_that_is_no_text_is_refused_with_escapes(access, client):
    place = Made([["photos", "ann/%FF.jpg", "", "true", "false", "1", AT, "e", "S"], row("ann/1.jpg")]).in_s3(client)
    (ref,), (refused,), _ = listed(Inventory(place, RULE, access))
    assert (ref.line, refused.line, refused.code) == (2, 1, Code.BAD_LINE)
    assert r"\udcff" in refused.reason


def test_a_schema_with_less_in_it_is_followed_and_the_rest_is_asked_for(access, client):
    client.put_object(Bucket=BUCKET, Key="ann/there.jpg", Body=b"there")
    rows = [[quote_plus(key), BUCKET] for key in ("ann/there.jpg", "ann/gone.jpg")]
    (ref,), (gone,), _ = listed(Inventory(Made(rows, schema="Key, Bucket").in_s3(client), RULE, access))
    assert (ref.key, ref.size, gone.code, gone.line) == ("ann/there.jpg", 5, Code.GONE, 2)


def damaged(**changes):
    made = Made(FIRST, SECOND)
    made.facts |= changes
    return made


def tampered():
    made = Made(FIRST)
    made.tables["in/data/0.csv.gz"] = gzip.compress(b"other rows")
    return made


def cut_off():
    made = Made(FIRST * 200)
    data = made.tables["in/data/0.csv.gz"][:-20]
    made.tables["in/data/0.csv.gz"] = data
    made.facts["files"][0]["MD5checksum"] = md5(data)
    return made


def unsummed():
    made = Made(FIRST)
    made.checksum = "0" * 32
    return made


def lost():
    made = Made(FIRST)
    made.facts["files"][0]["key"] = "in/data/never.csv.gz"
    return made


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (unsummed(), "manifest.checksum"),
        (tampered(), "not what the inventory's manifest says"),
        (cut_off(), "no whole gzip"),
        (lost(), "never.csv.gz"),
        (damaged(fileFormat="ORC"), "ORC; have the inventory made as CSV"),
        (damaged(fileFormat="Parquet"), "Parquet"),
        (damaged(fileSchema="Bucket, Size"), "names no Bucket and Key"),
        (damaged(files=[]), "empty"),
        (damaged(files=[{"key": 1}]), "no manifest.json of"),
        (damaged(destinationBucket=None), "no manifest.json of"),
    ],
)
def test_what_cannot_be_believed_stops_the_listing_with_a_sentence(access, placed, made, words):
    source = Inventory(placed(made), RULE, access)

    def use():
        source.check()
        listed(source)

    with pytest.raises(SourceError, match=words):
        use()


def test_what_is_no_inventory_at_all_is_named(access, client, tmp_path):
    for text in ("", "{", "[" * 100_000, "[]", '"x"'):
        path = tmp_path / "manifest.json"
        path.write_text(text)
        (tmp_path / "manifest.checksum").write_text(md5(text.encode()) + "\n")
        with pytest.raises(SourceError, match=r"no manifest\.json"):
            Inventory(str(path), RULE, access).check()
    (tmp_path / "manifest.checksum").unlink()
    with pytest.raises(SourceError, match=r"manifest\.checksum"):
        Inventory(str(path), RULE, access).check()


def test_an_inventory_that_is_made_anew_meanwhile_stops_the_listing(access, placed):
    place = placed(Made(FIRST))
    cursor = Inventory(place, RULE, access).page(None, 2).cursor
    placed(Made(FIRST + SECOND))
    with pytest.raises(SourceError, match="changed"):
        Inventory(place, RULE, access).page(cursor, 2)


def test_a_table_that_is_overwritten_meanwhile_stops_the_listing(access, placed):
    made = Made(FIRST * 500)
    place = placed(made)
    cursor = Inventory(place, RULE, access).page(None, 2).cursor
    (key,) = made.tables
    made.tables[key] = gzip.compress(b"other")
    placed(made)
    with pytest.raises(SourceError, match=r"changed|not what"):
        Inventory(place, RULE, access).page(cursor, 2)


def test_the_tables_too_must_lie_where_something_may_be_read(access, client):
    made = Made(FIRST)
    place = made.in_s3(client)
    below = Place.named(f"s3://{BUCKET}/in/2026-01-02T00-00Z")
    with pytest.raises(SourceError, match="outside"):
        Inventory(place, RULE, access, Allowed(places=(below,))).check()
    all_of_it = Allowed(places=(Place.named(f"s3://{BUCKET}"),))
    refs, refused, _ = listed(Inventory(place, RULE, access, all_of_it))
    assert refs == []
    assert {refusal.code for refusal in refused} == {Code.OUTSIDE}


def test_very_many_rows_are_read_once_from_beginning_to_end(access, client, monkeypatch):
    """Pages of one task follow each other without the table being opened again."""
    rows = [row(f"u{n % 9}/{n}.jpg") for n in range(10_000)]
    source = Inventory(Made(rows, rows).in_s3(client), RULE, access)
    opened = []
    real = gzip.open
    monkeypatch.setattr(gzip, "open", lambda *given: (opened.append(given), real(*given))[1])
    refs, refused, pages = listed(source, 1000)
    assert (len(refs), refused, len(opened)) == (20_000, [], 2)
    assert [ref.line for ref in refs] == list(range(1, 20_001))
    rest, _, _ = listed(Inventory(source._manifest.name, RULE, access), 1000, pages[14].cursor)
    assert [ref.line for ref in rest] == list(range(15_001, 20_001))
