"""Whose photo is it: rules that fit, rules that cannot be, and keys that do not match."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ConfigurationError
from pipeline.sources.user_rule import UserRule

SEGMENT = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1)


@pytest.mark.parametrize(
    ("template", "key", "user"),
    [
        ("{user}/{photo}", "ann/2019/1.jpg", "ann"),
        ("{user}/{photo}", "ann", None),
        ("{user}/{photo}", "ann/", None),
        ("{user}/{photo}", "/1.jpg", None),
        ("uploads/{user}/{photo}", "uploads/ann/1.jpg", "ann"),
        ("uploads/{user}/{photo}", "other/ann/1.jpg", None),
        ("{photo}-{user}.jpg", "2019/trip-1-ann.jpg", "ann"),
        ("{photo}/{user}", "a/b/c", "c"),
        ("a.b/{user}/{photo}", "aXb/ann/1.jpg", None),  # a dot is a dot
        ("{user}/{photo}", "new\nline/pho\nto", "new\nline"),
        ("({user})+/{photo}", "(ann)+/1.jpg", "ann"),
    ],
)
def test_owners(template, key, user):
    assert UserRule.parse(template).owner(key) == user


@given(user=SEGMENT, photo=st.text(min_size=1))
def test_the_first_segment_is_the_user_whatever_it_holds(user, photo):
    assert UserRule.parse("{user}/{photo}").owner(f"{user}/{photo}") == user


@pytest.mark.parametrize(
    "template", ["", "{user}", "{photo}", "{user}/{user}/{photo}", "{user}/{photo}/{x}", "{}/{user}"]
)
def test_rules_that_cannot_be_say_what_they_need(template):
    with pytest.raises(ConfigurationError, match="once each"):
        UserRule.parse(template)


def test_a_fixed_user_owns_everything():
    rule = UserRule.parse("{user}/{photo}", "me")
    assert [rule.owner(key) for key in ("ann/1.jpg", "1.jpg", "")] == ["me"] * 3


@pytest.mark.parametrize("name", ["", " ", "\n", "a\0b"])
def test_a_fixed_user_has_a_name(name):
    with pytest.raises(ConfigurationError, match="--user"):
        UserRule.parse("{user}/{photo}", name)
