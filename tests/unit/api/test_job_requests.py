"""What a body becomes, and what nobody may name over the network."""

import pytest
from pydantic import ValidationError

from api.errors import Problem
from api.jobs.bodies import JobIn, PauseIn
from api.jobs.requests import Reach, request_of, spoken
from pipeline.ledger.requests import Output, Scope, Window
from pipeline.settings import Settings
from pipeline.sources.rules import Rules

CONFIGURED = {"sources": ("s3://photos/in",), "outputs": ("s3://results/out",), "webhook_secret": "s" * 24}


def reach(*, here: bool = False, **settings: object) -> Reach:
    return Reach(settings=Settings(**{**CONFIGURED, **settings}), here=here)  # type: ignore[arg-type]


def asked(**body: object) -> JobIn:
    return JobIn.model_validate({"source": "s3://photos/in/ann", **body})


def refused(found: Reach, **body: object) -> Problem:
    with pytest.raises(Problem) as caught:
        request_of(asked(**body), None, found)
    return caught.value


def test_everything_that_tag_takes_can_be_asked_for() -> None:
    body = asked(
        user_from="{user}/x/{photo}",
        scope="stale",
        rules={"include_prefixes": ["ann/"], "exclude_users": ["ben"], "need_consent": True},
        priority=7,
        window={"begins": "22:00", "ends": "06:30", "timezone": "Europe/Berlin"},
        most_failed_share=0.05,
        keep_missing=True,
        outputs=[{"target": "s3://results/out/{job}.csv"}, {"target": "s3://results/out/folder/", "format": "csv"}],
        notify=["https://hooks.example.org/ended"],
    )
    found = request_of(body, "night 7", reach())
    assert (found.kind, found.source, found.user_rule) == ("s3", "s3://photos/in/ann", "{user}/x/{photo}")
    assert found.rules == Rules(include_prefixes=("ann/",), exclude_users=("ben",), need_consent=True)
    assert (found.scope, found.priority, found.most_failed_share) == (Scope.STALE, 7, 0.05)
    assert found.window == Window(begins="22:00", ends="06:30", timezone="Europe/Berlin")
    assert found.outputs == (
        Output(target="s3://results/out/{job}.csv", format="csv"),
        Output(target="s3://results/out/folder/", format="csv"),
    )
    assert (found.notify, found.idempotency_key) == (("https://hooks.example.org/ended",), "night 7")


@pytest.mark.parametrize(
    ("body", "kind", "source"),
    [
        ({"source": "ledger:photos"}, "ledger", "photos"),
        ({"source": "ledger:user:ann"}, "ledger", "user:ann"),
        ({"source": None, "manifest": "s3://photos/in/list.jsonl"}, "manifest", "s3://photos/in/list.jsonl"),
        ({"source": None, "manifest": "s3://photos/in/a/manifest.json"}, "inventory", "s3://photos/in/a/manifest.json"),
    ],
)
def test_sources_of_other_kinds(body: dict[str, object], kind: str, source: str) -> None:
    found = request_of(asked(**body), None, reach())
    assert (found.kind, found.source) == (kind, source)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"source": "/etc"}, "body.source"),
        ({"source": "."}, "body.source"),
        ({"source": "file:///etc"}, "body.source"),
        ({"source": "http://169.254.169.254/"}, "body.source"),
        ({"source": "s3://photos/"}, "body.source"),
        ({"source": "s3://photos/inside"}, "body.source"),
        ({"source": "s3://photos/in/../other"}, "body.source"),
        ({"source": "s3://other/in"}, "body.source"),
        ({"source": None, "manifest": "/tmp/list.jsonl"}, "body.manifest"),
        ({"source": None, "manifest": "s3://photos/list.jsonl"}, "body.manifest"),
        ({"outputs": [{"target": "/tmp/results/"}]}, "body.outputs"),
        ({"outputs": [{"target": "s3://photos/in/results/"}]}, "body.outputs"),
        ({"notify": ["http://127.0.0.1:8000/"]}, "body.notify"),
        ({"notify": ["https://127.0.0.1/"]}, "body.notify"),
        ({"notify": ["https://10.0.0.7/"]}, "body.notify"),
        ({"notify": ["https://169.254.169.254/latest"]}, "body.notify"),
        ({"notify": ["https://[::1]/"]}, "body.notify"),
        ({"notify": ["https://[::ffff:10.0.0.7]/"]}, "body.notify"),
        ({"notify": ["https://localhost/"]}, "body.notify"),
        ({"notify": ["https://postgres/"]}, "body.notify"),
        ({"notify": ["https://metadata.google.internal/"]}, "body.notify"),
        ({"notify": ["https://0x7f.1/"]}, "body.notify"),
        ({"notify": ["https://2130706433/"]}, "body.notify"),
        ({"notify": ["ftp://example.org/"]}, "body.notify"),
        ({"notify": ["https://[/"]}, "body.notify"),
    ],
)
def test_what_may_not_be_named_over_the_network(body: dict[str, object], pointer: str) -> None:
    problem = refused(reach(), **body)
    assert (problem.status, problem.code) == (403, "place_not_allowed")
    assert problem.errors[0]["pointer"] == pointer


@pytest.mark.parametrize(
    ("body", "missing", "named"),
    [({}, {"sources": None}, "PICTOGRAPH_SOURCES"),
     ({"outputs": [{"target": "s3://results/out/"}]}, {"outputs": None}, "PICTOGRAPH_OUTPUTS")],
)  # fmt: skip
def test_where_no_places_are_listed_none_can_be_named(
    body: dict[str, object], missing: dict[str, object], named: str
) -> None:
    problem = refused(reach(**missing), **body)
    assert (problem.status, problem.code) == (403, "place_not_allowed")
    assert named in str(problem)


def test_an_open_server_of_this_machine_names_what_the_command_line_may(tmp_path: object) -> None:
    here = reach(here=True, sources=None, outputs=None)
    found = request_of(
        asked(source=str(tmp_path), outputs=[{"target": f"{tmp_path}/out.csv"}], notify=["http://127.0.0.1:9/x"]),
        None,
        here,
    )
    assert (found.kind, found.source) == ("folder", str(tmp_path))
    assert found.outputs == (Output(target=f"{tmp_path}/out.csv", format="csv"),)
    bounded = reach(here=True, outputs=None)
    assert refused(bounded, source=str(tmp_path)).code == "place_not_allowed"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"source": None}, "body.source"),
        ({"manifest": "s3://photos/in/list.jsonl"}, "body.source"),
        ({"source": None, "manifest": "s3://photos/in/folder"}, "body.manifest"),
        ({"source": None, "manifest": "ledger:photos"}, "body.manifest"),
        ({"source": "ledger:nothing"}, "body.source"),
        ({"source": "s3://No_Bucket/"}, "body.source"),
        ({"user_from": "{photo}"}, "body.user_from"),
        ({"window": {"begins": "01:00", "ends": "01:00"}}, "body.window"),
        ({"window": {"begins": "01:00", "ends": "02:00", "timezone": "Mars/Olympus"}}, "body.window"),
        ({"outputs": [{"target": "s3://results/out/a"}, {"target": "s3://results/out/a"}]}, "body.outputs"),
        ({"notify": ["https://ann:secret@example.org/"]}, "body.notify"),
    ],
)
def test_what_cannot_be_understood_is_told_by_field(body: dict[str, object], pointer: str) -> None:
    problem = refused(reach(here=body.get("manifest") == "ledger:photos"), **body)
    assert (problem.status, problem.code) == (400, "invalid_request")
    assert problem.errors[0]["pointer"] == pointer
    assert "--" not in str(problem), "options are those of the command line"


def test_without_a_secret_nobody_is_told() -> None:
    problem = refused(reach(webhook_secret=None), notify=["https://example.org/"])
    assert (problem.code, "PICTOGRAPH_WEBHOOK_SECRET" in str(problem)) == ("invalid_request", True)


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
def test_keys_that_cannot_be_kept(key: str) -> None:
    with pytest.raises(Problem, match="Idempotency-Key"):
        request_of(asked(), key, reach())


@pytest.mark.parametrize(
    "body",
    [
        {"sauce": "s3://photos/in/"},
        {"source": "s3://photos/in/a\0b"},
        {"user": "\ud800"},
        {"priority": 101},
        {"most_failed_share": 1.5},
        {"scope": "some"},
        {"rules": {"include_keys": ["a"]}},
        {"window": {"begins": "25:00", "ends": "01:00"}},
        {"notify": ["https://example.org/"] * 11},
    ],
)
def test_bodies_that_are_refused_as_they_are(body: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        asked(**body)


def test_a_pause_ends_at_a_moment_and_not_at_an_hour_of_somewhere() -> None:
    with pytest.raises(ValidationError):
        PauseIn.model_validate({"until": "2026-10-08T06:00:00"})
    assert PauseIn.model_validate({"until": "2026-10-08T06:00:00Z"}).until is not None


def test_sentences_speak_of_fields() -> None:
    assert (
        spoken("--user-from '{a}' is wrong; --user too, and SOURCE") == "user_from '{a}' is wrong; user too, and source"
    )
