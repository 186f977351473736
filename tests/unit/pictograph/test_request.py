"""What is typed becomes a request, or one sentence that says why not."""

import json
from pathlib import Path

import pytest

from pictograph.cli.preview import duration, tell
from pictograph.cli.request import Asked, parse_filters, parse_share, request_of
from pipeline.errors import ConfigurationError
from pipeline.ledger.forecast import Forecast, Pace
from pipeline.ledger.requests import JobRequest, Output, Scope, Window
from pipeline.sources.rules import Rules


def test_nothing_but_a_place_is_the_plainest_request():
    assert request_of(Asked(source="s3://photos/2026/")) == JobRequest(
        kind="s3", source="s3://photos/2026/", user_rule="{user}/{photo}"
    )


def test_everything_that_can_be_typed_is_in_the_request(tmp_path: Path):
    asked = Asked(
        source=str(tmp_path),
        user_from="x/{user}/{photo}",
        user="ann",
        priority=7,
        keep_missing=True,
        allow_mass_delete=True,
        scope=Scope.STALE,
        filters=["prefix=a/", "user!=bob"],
        outputs=[str(tmp_path / "night.csv"), "s3://results/night/"],
        notify=["https://example.org/told"],
        max_failed="5%",
        window="22:00-06:00",
        timezone="Europe/Berlin",
        idempotency_key="night 7",
    )
    assert request_of(asked) == JobRequest(
        kind="folder",
        source=str(tmp_path),
        user_rule="x/{user}/{photo}",
        fixed_user="ann",
        priority=7,
        keep_missing=True,
        allow_mass_delete=True,
        scope=Scope.STALE,
        rules=Rules(include_prefixes=("a/",), exclude_users=("bob",)),
        most_failed_share=0.05,
        window=Window(begins="22:00", ends="06:00", timezone="Europe/Berlin"),
        outputs=(Output(target=f"{tmp_path}/night.csv", format="csv"), Output(target="s3://results/night/")),
        notify=("https://example.org/told",),
        idempotency_key="night 7",
    )


@pytest.mark.parametrize("about", ["photos", "user:ann", "job:17"])
def test_photos_of_the_ledger_are_a_source_too(about: str):
    request = request_of(Asked(source=f"ledger:{about}"))
    assert (request.kind, request.source) == ("ledger", about)


@pytest.mark.parametrize(
    ("filters", "rules"),
    [
        ([], Rules()),
        (["prefix=a/", "prefix=b/"], Rules(include_prefixes=("a/", "b/"))),
        (["prefix!=a/tmp"], Rules(exclude_prefixes=("a/tmp",))),
        (["user=ann", "user!=bob=x"], Rules(include_users=("ann",), exclude_users=("bob=x",))),
        (["user=!=", "consent"], Rules(include_users=("!=",), need_consent=True)),
        (["prefix= a b "], Rules(include_prefixes=(" a b ",))),
    ],
)
def test_filters_become_rules(filters: list[str], rules: Rules):
    assert parse_filters(filters) == rules


@pytest.mark.parametrize(
    "one", ["", "prefix", "prefix=", "user!=", "users=ann", "consent=yes", "Consent", "user=a\0", "=a"]
)
def test_what_is_no_rule_is_named(one: str):
    with pytest.raises(ConfigurationError, match="is no rule; write prefix=KEYS"):
        parse_filters(["user=ann", one])


@pytest.mark.parametrize(
    ("text", "share"), [("5%", 0.05), ("0%", 0.0), ("100 %", 1.0), (" 0.5%", 0.005), ("12.5%", 0.125), (None, None)]
)
def test_shares(text: str | None, share: float | None):
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "5", "0.05", "101%", "-1%", "five%", "1e1%", "٥%"])
def test_what_is_no_share_is_refused(text: str):
    with pytest.raises(ConfigurationError, match="write it as 5%"):
        parse_share(text)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"source": "ledger:everything"}, "photos, user:NAME and job:NUMBER"),
        ({"source": "ftp://x/"}, "not supported"),
        ({"window": "25:00-06:00"}, "no clock shows"),
        ({"timezone": "UTC"}, "give --window too"),
        ({"window": "01:00-06:00", "timezone": "Mars/Olympus"}, "no time zone"),
        ({"outputs": ["ftp://x/y"]}, "--output"),
        ({"idempotency_key": ""}, "1 to 200"),
        ({"idempotency_key": "x" * 201}, "1 to 200"),
        ({"idempotency_key": "a\nb"}, "can be seen"),
        ({"user_from": "{nobody}"}, "--user-from"),
    ],
)
def test_what_cannot_be_understood_is_one_sentence(asked: dict[str, object], said: str):
    with pytest.raises(ConfigurationError, match=said) as caught:
        request_of(Asked(**{"source": "s3://photos/", **asked}))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_forecast_is_told_without_what_is_nothing(capsys: pytest.CaptureFixture[str]):
    found = Forecast(listed=9, new=4, unchanged=2, excluded={"not_chosen": 3}, due=4, same_version=1, gone=5)
    tell(found, as_json=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "9 entries and work on 4 of them" in said
    assert "4 new 1 with the etag and size of a known photo" in said
    assert "3 excluded 3 not chosen" in said
    assert "5 gone no longer in the source; would be subtracted" in said
    assert "changed" not in said.replace("unchanged", "")
    tell(found, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert (facts["due"], facts["excluded"], facts["pace"], facts["seconds"]) == (4, {"not_chosen": 3}, None, None)


def test_the_time_is_told_with_where_it_is_from():
    found = Forecast(listed=100, excluded={}, due=90)
    assert duration(found) == "How long it takes is unknown: no job of this model has ended here."
    known = Forecast(listed=100, excluded={}, due=7200, pace=Pace(jobs=(3, 2), photos=500, seconds=250))
    assert duration(known) == (
        "At the 2.0 photos/s of the last 2 jobs of this model (500 photos) it takes 1:00:00 (h:mm:ss)."
    )
