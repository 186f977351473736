"""The address that psql gets: an analyst's, and without a password."""

from urllib.parse import parse_qs, urlsplit

import pytest

from pictograph.cli.sql import connection_of


@pytest.mark.parametrize(
    ("url", "place", "password"),
    [
        ("postgresql://ann:s3cret@db:5433/photos", "postgresql://ann@db:5433/photos", "s3cret"),
        ("postgres://ann@db/photos", "postgresql://ann@db/photos", None),
        ("postgresql://ann@db/photos?password=s3cret", "postgresql://ann@db/photos", "s3cret"),
        ("postgresql://a+b:p%40ss@db/photos", "postgresql://a+b@db/photos", "p@ss"),
    ],
)
def test_the_password_is_in_a_variable_and_nowhere_else(url, place, password):
    address, variables = connection_of(url)
    assert address.startswith(f"{place}?options=")
    assert variables == ({} if password is None else {"PGPASSWORD": password})
    assert "password" not in address


def test_the_session_is_an_analysts_beside_what_the_url_asks_for():
    address, _ = connection_of("postgresql://ann@db/photos?sslmode=require&options=-c%20work_mem%3D8MB")
    query = parse_qs(urlsplit(address).query, strict_parsing=True)
    assert query["sslmode"] == ["require"]
    (options,) = query["options"]
    assert options.startswith("-c work_mem=8MB -c role=pictograph_analyst")
    assert "+" not in address
    for setting in ("default_transaction_read_only=on", "statement_timeout=60s", "search_path=tags"):
        assert f"-c {setting}" in options
