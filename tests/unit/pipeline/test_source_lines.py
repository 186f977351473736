"""Lines and rows out of bytes: what was written comes out, from any point, and what is bad costs itself alone."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.lines import MOST_LINE_BYTES, START, lines, rows

FIELD = st.text(st.sampled_from('ab,"\n\r ä🐕%+\ufeff'), max_size=6)
TABLE = st.lists(st.lists(FIELD, min_size=2, max_size=4), max_size=8)


def written(table, end="\r\n"):
    text = io.StringIO()
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL  # a lone \r is quoted only where it ends lines
    csv.writer(text, lineterminator=end, quoting=quoting).writerows(table)
    return text.getvalue().encode()


def read(data, start=START):
    return list(rows(io.BytesIO(data[start.byte :]), start))


@given(table=TABLE, end=st.sampled_from(["\n", "\r\n"]))
def test_whatever_a_table_holds_it_comes_out_and_goes_on_after_any_row(table, end):
    table = [[field.lstrip("\ufeff") for field in row] for row in table]  # at the beginning it means nothing
    found = read(written(table, end))
    assert [row.fields for row in found] == table
    assert all(row.bad is None for row in found)
    for n, row in enumerate(found):
        rest = read(written(table, end), row.after)
        assert [(each.number, each.fields) for each in rest] == [(e.number, e.fields) for e in found[n + 1 :]]


@given(data=st.binary(max_size=200) | st.text('a,"\n', max_size=60).map(str.encode))
def test_whatever_the_bytes_every_line_is_accounted_for_and_nothing_is_read_twice(data):
    found = read(data)
    ends = [row.after for row in found]
    assert ends == sorted(ends, key=lambda at: at.byte)
    assert all(0 < at.byte <= len(data) for at in ends)
    assert len({row.number for row in found}) == len(found)
    for row in found:
        assert read(data, row.after) == found[found.index(row) + 1 :]


def test_a_quote_that_is_never_closed_costs_its_own_row():
    data = b'b,1.jpg\nb,"2.jpg\nb,3.jpg\nb,"4\n.jpg",5\nb,6.jpg\n'
    found = read(data)
    assert [(row.number, row.fields or "bad") for row in found] == [
        (1, ["b", "1.jpg"]),
        (2, "bad"),
        (3, ["b", "3.jpg"]),
        (4, ["b", "4\n.jpg", "5"]),
        (6, ["b", "6.jpg"]),
    ]
    (unclosed,) = read(b'b,"never\nb,2\n')[:1]
    assert unclosed.bad.startswith("is no row of a table")
    assert read(b'b,"never\nb,2\n')[1].fields == ["b", "2"]


@pytest.mark.parametrize("extra", [0, 1, 3 * 1024 * 1024])
def test_a_line_that_is_too_long_is_bad_and_the_next_is_found(extra):
    data = b"a,b\n" + b"x" * (MOST_LINE_BYTES + extra) + b"\nc,d\n"
    for cut, good in ((lines, lambda line: line.text.strip()), (rows, lambda row: ",".join(row.fields))):
        first, long, last = cut(io.BytesIO(data), START)
        assert (good(first), long.bad, good(last)) == ("a,b", f"has more than {MOST_LINE_BYTES:,} bytes.", "c,d")
        assert (long.number, last.number, last.after.byte) == (2, 3, len(data))


def test_a_row_of_many_lines_is_not_held_without_end():
    long = b'a,"' + b"x\n" * MOST_LINE_BYTES + b'"\n'
    found = rows(io.BytesIO(long + b"c,d\n"), START)
    assert "larger than" in next(found).bad
    assert next(found).fields == ["x"]  # the next line, as itself


def test_blank_lines_count_and_are_passed_over():
    data = b"\xef\xbb\xbfa\n\n  \nb"
    assert [(line.number, line.text.strip()) for line in lines(io.BytesIO(data), START)] == [(1, "a"), (4, "b")]
    assert [(row.number, row.fields) for row in read(b"\xef\xbb\xbfa,b\n\nc,d")] == [(1, ["a", "b"]), (3, ["c", "d"])]
