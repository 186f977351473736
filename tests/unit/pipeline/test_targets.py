"""Where results go and who is told: what is taken, what is refused, and with which word."""

import base64
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.errors import ConfigurationError
from pipeline.ledger.requests import JobRequest, Output
from pipeline.ledger.targets import check_outputs, check_url, parse_output, secret_of, target_of
from pipeline.settings import Settings

WORD = "a secret that is long enough to sign"


def request(*outputs: str, notify: tuple[str, ...] = ()) -> JobRequest:
    return JobRequest(
        kind="s3",
        source="s3://photos/",
        user_rule="{user}/{photo}",
        outputs=tuple(map(parse_output, outputs)),
        notify=notify,
    )


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)  # type: ignore[arg-type, call-arg]


@pytest.mark.parametrize(
    ("typed", "output"),
    [
        ("s3://bucket", Output(target="s3://bucket/")),
        ("s3://bucket/night/", Output(target="s3://bucket/night/")),
        ("s3://bucket/night.csv", Output(target="s3://bucket/night.csv", format="csv")),
        ("/tmp/../tmp/x.jsonl", Output(target="/tmp/x.jsonl")),
        ("/nowhere/{job}/", Output(target="/nowhere/{job}/")),
        ("x.CSV", Output(target=f"{Path.cwd()}/x.CSV", format="csv")),
    ],
)
def test_an_output_is_made_absolute(typed: str, output: Output) -> None:
    assert parse_output(typed) == output


def test_a_folder_that_is_there_is_one_without_a_slash(tmp_path: Path) -> None:
    assert parse_output(str(tmp_path)).target == f"{tmp_path}/"


@pytest.mark.parametrize(
    "typed", ["", " ", "ftp://x/y", "s3://", "s3://B/x", "s3://bucket/../x", "/tmp/\x1b[2J", "a\nb"]
)
def test_an_output_that_is_none_is_refused(typed: str) -> None:
    with pytest.raises(ConfigurationError):
        parse_output(typed)


def test_the_files_of_an_output() -> None:
    target = target_of("s3://bucket/night/{job}/", "csv", 7)
    assert (target.bucket, target.results, target.summary) == ("bucket", "night/7/results.csv", "night/7/summary.json")
    target = target_of("/x/{job}.jsonl", "jsonl", 7)
    assert (target.bucket, target.results, target.summary) == (None, "/x/7.jsonl", "/x/7.summary.json")


def test_two_outputs_in_one_folder_would_share_their_summary() -> None:
    check_outputs(settings(), request("/x/a.jsonl", "/x/b.jsonl"))
    with pytest.raises(ConfigurationError, match=r"same file, /x/a\.summary\.json;"):
        check_outputs(settings(), request("/x/a.jsonl", "/x/a.csv"))


def test_outputs_lie_in_the_places_that_are_listed() -> None:
    walled = settings(outputs="/srv/results, s3://bucket/night")
    check_outputs(walled, request("/srv/results/{job}.jsonl", "s3://bucket/night/"))
    for outside in ("/srv/results2/x", "/srv/results", "s3://bucket/nightly/", "s3://other/night/"):
        with pytest.raises(ConfigurationError, match="PICTOGRAPH_OUTPUTS"):
            check_outputs(walled, request(outside))


@pytest.mark.parametrize(
    "url",
    ["https://example.org/x?y=1", "http://127.0.0.1:8000/", "http://[::1]/", "http://localhost/x", "https://h:1/"],
)
def test_where_notices_may_go(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "http://127.0.0.1.example.org/",
        "http://10.0.0.1/",
        "https://ann@example.org/",
        "https://ann:word@example.org/",
        "https://",
        "https://example.org:99999/",
        "https://exa mple.org/",
        "https://example.org/\n",
        "file:///etc/passwd",
        "//example.org/",
        "https://[::1",
        "https://h/" + "x" * 3000,
        "",
    ],
)
def test_where_notices_may_not_go(url: str) -> None:
    with pytest.raises(ConfigurationError, match="--notify"):
        check_url(url)


def test_notices_need_a_secret() -> None:
    asked = request(notify=("https://example.org/",))
    with pytest.raises(ConfigurationError, match="PICTOGRAPH_WEBHOOK_SECRET"):
        check_outputs(settings(), asked)
    check_outputs(settings(webhook_secret=SecretStr(WORD)), asked)


def test_a_secret_is_text_or_base64_and_not_short() -> None:
    assert secret_of(settings(webhook_secret=SecretStr(WORD))) == WORD.encode()
    spelt = "whsec_" + base64.b64encode(WORD.encode()).decode()
    assert secret_of(settings(webhook_secret=SecretStr(spelt))) == WORD.encode()
    for short in ("word", "whsec_" + base64.b64encode(b"word").decode(), "whsec_not base64 and long enough to be one"):
        with pytest.raises(ConfigurationError, match="PICTOGRAPH_WEBHOOK_SECRET"):
            secret_of(settings(webhook_secret=SecretStr(short)))
