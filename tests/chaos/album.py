"""The photos of one case of the sweep: few, but one of each kind that takes a way of its own through the pipeline."""

from typing import TYPE_CHECKING

from tests.chaos.model import photo

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "sweep"
PLACE = "in/"  # the prefix that the first job lists
ERASED = "abe"  # whose photos an erasure deletes; they come first
TWICE = "ann"  # whose photos the second job lists as well
PHOTOS_EACH = 6

CORRUPT = f"{PLACE}{TWICE}/corrupt.jpg"
CHANGED = f"{PLACE}{TWICE}/changed.jpg"  # overwritten after the listing
DELETED = f"{PLACE}{TWICE}/deleted.jpg"  # likewise deleted

ORDINARY = {
    f"{PLACE}{user}/{n}.jpg": photo(place * PHOTOS_EACH + n)
    for place, user in enumerate((ERASED, TWICE, "ben", "cleo"))
    for n in range(PHOTOS_EACH)
}
TWINS = (f"{PLACE}ben/0.jpg", f"{PLACE}cleo/0.jpg")  # the same bytes, of two users
ORDINARY[TWINS[1]] = ORDINARY[TWINS[0]]
LISTED = {**ORDINARY, CORRUPT: photo(30)[:-40], CHANGED: photo(31), DELETED: photo(32)}
LATER = photo(33)  # what `CHANGED` is then


def hang_up(client: "S3Client") -> None:
    """Put everything where it is listed."""
    for key, body in LISTED.items():
        client.put_object(Bucket=BUCKET, Key=key, Body=body)


def restore(client: "S3Client") -> None:
    """Undo `disturb`."""
    for key in (CHANGED, DELETED):
        client.put_object(Bucket=BUCKET, Key=key, Body=LISTED[key])


def disturb(client: "S3Client") -> None:
    """What happens to photos between their listing and their reading. Safe to repeat."""
    client.put_object(Bucket=BUCKET, Key=CHANGED, Body=LATER)
    client.delete_object(Bucket=BUCKET, Key=DELETED)
