import pytest

from pipeline.ledger.refresh import Listing, Place, place_of
from pipeline.sources.rules import Rules

PHOTOS = "s3://photos"


@pytest.mark.parametrize(
    ("kind", "source", "template", "fixed", "address", "expected"),
    [
        ("s3", "s3://photos/2026", "{user}/{photo}", None, (PHOTOS, "2026/ann/1.jpg"), "s3://photos/2026/ann/"),
        ("s3", "s3://photos/", "up/{user}/x/{photo}", None, (PHOTOS, "up/ann/x/1.jpg"), "s3://photos/up/ann/x/"),
        ("s3", "s3://photos/ann/", "{user}/{photo}", "ann", (PHOTOS, "ann/deep/1.jpg"), "s3://photos/ann/"),
        ("s3", "s3://photos/", "{user}/{photo}", None, ("s3://others", "ann/1.jpg"), None),  # another bucket
        ("s3", "s3://photos/20", "{user}/{photo}", None, (PHOTOS, "2026/ann/1.jpg"), None),  # a prefix is a folder
        ("s3", "s3://photos/", "{user}/{photo}", None, (PHOTOS, "anna/1.jpg"), None),  # somebody else's
        ("s3", "s3://photos/", "{user}-{photo}", None, (PHOTOS, "ann-1.jpg"), None),  # no folder of hers alone
        ("s3", "s3://photos/", "{photo}/{user}", None, (PHOTOS, "1/ann"), None),
        ("s3", "s3://photos/", "{user}", None, (PHOTOS, "ann/1.jpg"), None),  # no rule of this release
        ("folder", "/srv/photos", "{user}/{photo}", None, ("file://", "/srv/photos/ann/1.jpg"), "/srv/photos/ann/"),
        ("folder", "/srv/photos", "{user}/{photo}", None, (PHOTOS, "srv/photos/ann/1.jpg"), None),
    ],
)
def test_a_users_place_is_the_folder_where_a_listing_has_met_them(kind, source, template, fixed, address, expected):
    listing = Listing(kind=kind, source=source, user_rule=template, fixed_user=fixed, rules=Rules())
    found = place_of(listing, "ann", *address)
    assert found == (expected and Place(kind=kind, source=expected, rules=Rules()))


def test_a_place_that_its_rules_leave_out_is_none():
    rules = Rules(exclude_prefixes=("ann/private/",), need_consent=True)
    listing = Listing(kind="s3", source="s3://photos/", user_rule="{user}/{photo}", fixed_user=None, rules=rules)
    assert place_of(listing, "ann", PHOTOS, "ann/private/1.jpg") is None
    found = place_of(listing, "ann", PHOTOS, "ann/1.jpg")
    assert found is not None
    assert found.rules == rules
