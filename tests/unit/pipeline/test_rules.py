"""What the rules of a job leave out, and what they cannot."""

from dataclasses import asdict
from datetime import UTC, datetime

import pytest

from pipeline.records import Code, Page, PhotoRef, Refusal
from pipeline.sources.allowed import LOCAL
from pipeline.sources.rules import Rules, Standing, apply_rules

YES, NO = Standing(consent=True, erased=False), Standing(consent=False, erased=False)
ERASED = Standing(consent=None, erased=True)


def ref(key, user="ann", **more):
    place = {"bucket": "s3://photos"} | more
    return PhotoRef(key=key, user=user, etag="e", size=1, modified_at=datetime(2026, 1, 1, tzinfo=UTC), **place)


def page(*refs):
    refused = Refusal(name="top.jpg", code=Code.NO_USER, reason="is top.")
    return Page(refs=refs, refusals=(refused,), gone=(), cursor="c", last=True)


def kept(rules, *refs, **standings):
    return [each.key for each in apply_rules(page(*refs), rules, standings).refs]


def test_without_rules_everything_is_chosen():
    before = page(ref("a"), ref("b"))
    assert apply_rules(before, Rules(), {}) == before


@pytest.mark.parametrize(
    ("rules", "keys"),
    [
        (Rules(include_prefixes=("ann/",)), ["ann/1", "ann/x/2"]),
        (Rules(include_prefixes=("ann/x", "ben/")), ["ann/x/2", "ben/3"]),
        (Rules(exclude_prefixes=("ann/x",)), ["ann/1", "anna/4", "ben/3"]),
        (Rules(include_prefixes=("ann",), exclude_prefixes=("ann/",)), ["anna/4"]),
        (Rules(include_users=("ben",)), ["ben/3"]),
        (Rules(exclude_users=("ben", "anna")), ["ann/1", "ann/x/2"]),
        (Rules(include_users=("ben",), exclude_users=("ben",)), []),
        (Rules(include_users=("ben", "ann"), include_prefixes=("ann/x", "anna")), ["ann/x/2"]),
    ],
)
def test_an_exclusion_wins_over_an_inclusion(rules, keys):
    refs = [ref(key, key.split("/")[0]) for key in ("ann/1", "ann/x/2", "anna/4", "ben/3")]
    found = apply_rules(page(*refs), rules, {})
    assert [each.key for each in found.refs] == keys
    assert found.refusals[0].name == "top.jpg"
    left_out = found.refusals[1:]
    assert {each.name for each in left_out} == {each.key for each in refs} - {*keys}  # by which a listing knows them
    assert {each.code for each in left_out} <= {Code.NOT_CHOSEN}
    assert Rules.of({name: list(it) if isinstance(it, tuple) else it for name, it in asdict(rules).items()}) == rules


@pytest.mark.parametrize(
    ("line", "ledger", "let_in"),
    [
        (None, YES, True),
        (None, NO, False),
        (None, None, False),
        (True, NO, True),
        (True, None, True),
        (False, YES, False),
    ],
)
def test_consent_is_the_lines_else_the_ledgers_and_silence_is_no(line, ledger, let_in):
    standings = {} if ledger is None else {"ann": ledger}
    found = apply_rules(page(ref("1", consent=line)), Rules(need_consent=True), standings)
    assert bool(found.refs) is let_in
    assert [each.code for each in found.refusals[1:]] == ([] if let_in else [Code.NO_CONSENT])


def test_what_is_left_out_says_which_line_and_which_object():
    rules = Rules(exclude_users=("ann",))
    refs = ref("a/1", line=7, version_id="v"), ref("/tmp/a", bucket=LOCAL)
    _, first, second = apply_rules(page(*refs), rules, {}).refusals
    assert (first.name, first.line, first.uri, first.version_id) == ("line 7", 7, "s3://photos/a/1", "v")
    assert (second.name, second.uri) == ("/tmp/a", "file:///tmp/a")


def test_of_somebody_erased_no_address_is_kept():
    assert kept(Rules(exclude_users=("ann",), need_consent=True), ref("1"), ref("2", "ben"), ann=ERASED, ben=NO) == [
        "1"
    ]
