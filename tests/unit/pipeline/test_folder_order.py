"""A folder is walked in the byte order of full paths, whole and from any point; and orders of keys are told apart."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sources.folder import Folder
from pipeline.sources.source import Order, after_prefix, orders_of, storable
from pipeline.sources.user_rule import UserRule

NAME = st.text(
    st.sampled_from(["a", "b", "-", ".", " ", "0", "ä", "🐕", "\U0010ffff", "\udcff", "\udce4", "\x01"]),
    min_size=1,
    max_size=2,
)
TREE = st.lists(st.lists(NAME, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8, unique=True)
RULE = UserRule.parse("{user}/{photo}", "me")


def build(folder, paths):
    """Make the files, but those that are in the way of others; returns the full paths."""
    for path in paths:
        full = os.path.join(folder, path)
        try:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            Path(full).touch(exist_ok=True)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
    found = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
    return sorted(found, key=os.fsencode)


def walk(source, limit, cursor=None):
    keys, refused = [], []
    for _ in range(100):
        page = source.page(cursor, limit)
        keys += [ref.key for ref in page.refs]
        refused += [refusal.name for refusal in page.refusals]
        if page.last:
            return keys, refused
        cursor = page.cursor
    raise AssertionError("the listing does not come to an end")


@settings(max_examples=120, deadline=None)
@given(paths=TREE.map(lambda paths: [p for p in paths if not {".", ".."} & set(p.split("/"))]), limit=st.integers(1, 4))
def test_a_walk_is_the_sorted_list_of_full_paths_and_resumes_anywhere(paths, limit):
    with tempfile.TemporaryDirectory() as folder:
        expected = build(folder, paths)
        source = Folder(folder, RULE)
        good = [path for path in expected if storable(path)]
        keys, refused = walk(source, limit)
        assert keys == good
        assert len(refused) == len(expected) - len(good)
        for at, cursor in enumerate(good):
            assert walk(source, limit, cursor)[0] == good[at + 1 :]


@pytest.mark.parametrize(
    ("keys", "orders"),
    [
        ([], set(Order)),
        (["a", "b"], set(Order)),
        (["a.jpg", "a/1"], {Order.BYTES}),  # "." is below "/"
        (["a/1", "a.jpg"], {Order.TREE}),
        (["b", "a"], set()),
        (["\uffff", "\U0001f600"], set(Order)),  # by UTF-8, not by UTF-16
        (["\U0001f600", "\uffff"], set()),
    ],
)
def test_the_keys_of_a_page_tell_the_order_of_their_server(keys, orders):
    assert orders_of(keys) == orders


@given(prefix=st.text(max_size=3), rest=st.text(st.characters(max_codepoint=0x10FFFE, exclude_categories=["Cs"])))
def test_nothing_under_a_prefix_lies_beyond_its_end(prefix, rest):
    assert (prefix + rest).encode("utf-8", "surrogatepass") <= after_prefix(prefix).encode("utf-8", "surrogatepass")
