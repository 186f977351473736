import pytest
from fastapi import Request

from api.answers import answered, cacheable, preferred, stamped, unchanged

OFFERED = ("application/json", "image/svg+xml", "text/csv")


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("image/svg+xml", "image/svg+xml"),
        ("image/*", "image/svg+xml"),
        ("image/avif,image/webp,*/*;q=0.8", "application/json"),
        ("text/csv;q=0.9, image/svg+xml;q=0.5", "text/csv"),
        ("IMAGE/SVG+XML ; Q=1.0, application/json;q=0.2", "image/svg+xml"),
        ("image/svg+xml;q=0, application/json;q=0.1", "application/json"),
        ("image/svg+xml;q=much, text/csv;q=0.1", "text/csv"),
        ("image/png", "application/json"),
    ],
)
def test_what_accept_likes_best(accept: str, expected: str) -> None:
    assert preferred(accept, OFFERED) == expected


def asking(if_none_match: str) -> Request:
    return Request({"type": "http", "headers": [(b"if-none-match", if_none_match.encode())]})


@pytest.mark.parametrize("known", ["{}", 'W/{}, "other"', '"other" , {}', "*"])
def test_known_bodies_are_not_sent_again(known: str) -> None:
    etag = cacheable(asking(""), "body", "text/plain").headers["etag"]
    assert cacheable(asking(known.format(etag)), "body", "text/plain").status_code == 304
    assert cacheable(asking(known.format(etag)), "other", "text/plain").status_code == (304 if known == "*" else 200)


def test_bodies_of_users_are_private() -> None:
    answer = cacheable(asking(""), b"body", "text/plain", vary="Accept")
    assert (answer.headers["cache-control"], answer.headers["vary"]) == (
        "private, no-cache",
        "Accept, Authorization, Cookie",
    )
    assert answer.headers["etag"].startswith('"')


PARTS = (
    ("ann", 7),
    ("ann", 8),
    ("ben", 7),
    ("ann", 7, None),
    ("ann", "7"),
    ("ann\n7",),
    (("ann", 7),),
    (),
)


def test_stamps_differ_by_every_part_and_by_nothing_else() -> None:
    etags = [stamped(*parts) for parts in PARTS]
    assert len({*etags}) == len(PARTS)
    assert etags == [stamped(*parts) for parts in PARTS]
    assert all(etag.startswith('"') and etag.endswith('"') for etag in etags)  # strong


@pytest.mark.parametrize("known", ["{}", 'W/{}, "other"'])
def test_who_has_the_answer_of_a_stamp_gets_304_with_its_headers(known: str) -> None:
    etag = stamped("ann", 7)
    found = unchanged(asking(known.format(etag)), etag, vary="Accept")
    assert found is not None
    assert (found.status_code, found.body) == (304, b"")
    sent = answered("body", "text/plain", etag, vary="Accept")
    for name in ("etag", "cache-control", "vary"):
        assert found.headers[name] == sent.headers[name], name


@pytest.mark.parametrize("known", ["", '"other"', stamped("ann", 6), "ann", "*"])  # *: if there is any, which is open
def test_who_has_another_answer_gets_this_one(known: str) -> None:
    assert unchanged(asking(known), stamped("ann", 7)) is None
    sent = answered(b"body", "text/plain", stamped("ann", 7))
    assert (sent.status_code, sent.body, sent.headers["etag"]) == (200, b"body", stamped("ann", 7))
