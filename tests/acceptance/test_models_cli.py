"""`pictograph models` as its users call it: add, list, verify, remove; and what it is for, tag and evaluate."""

import json
from pathlib import Path

import pytest

from tests.acceptance.conftest import environment, run

torch = pytest.importorskip("torch", reason="torch is not installed")

from PIL import Image  # noqa: E402  (after the skip)

from pictograph.stack import wait_until_stopped  # noqa: E402
from workers.models import canary, networks  # noqa: E402

TINY = "timm:test_efficientnet"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return environment(home=tmp_path / "home", models=tmp_path / "models", decode_processes=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(networks.seeded(TINY, "random:1").state_dict(), tmp_path / "tiny.pth")
    return tmp_path / "tiny.pth"


def test_a_model_s_life(env: dict[str, str], file: Path, tmp_path: Path) -> None:
    added = run(("models", "add", "tiny", "--weights", file.name, "--network", TINY, "--json"), env, tmp_path)
    assert added.returncode == 0, added.stderr
    facts = json.loads(added.stdout)
    assert (facts["name"], facts["weights"], facts["bundled"], facts["image_size"]) == ("tiny", str(file), False, 160)

    (tmp_path / "models" / "broken.json").write_text("{")
    listed = run(("models", "list", "--json"), env | {"PICTOGRAPH_MODEL": "tiny"})
    assert listed.returncode == 1
    assert "broken.json cannot be used" in listed.stderr
    by_name = {each["name"]: each for each in map(json.loads, listed.stdout.splitlines())}
    assert set(by_name) == {"efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2", "tiny"}
    assert [name for name, each in by_name.items() if each["configured"]] == ["tiny"]
    assert by_name["tiny"] == facts | {"configured": True}

    verified = run(("models", "verify", "tiny"), env)
    assert (verified.returncode, verified.stderr) == (0, "")
    file.write_bytes(file.read_bytes() + b"\0")
    verified = run(("models", "verify", "tiny", "--json"), env)
    assert verified.returncode == 1
    assert "not the weights file that was pinned" in json.loads(verified.stdout)["faults"][0]

    for name in ("tiny", "broken"):
        assert run(("models", "remove", name), env).returncode == 0
    assert list((tmp_path / "models").iterdir()) == []


def test_random_weights_say_what_they_are(env: dict[str, str]) -> None:
    added = run(("models", "add", "random-tiny", "--weights", "random:0", "--network", TINY), env)
    assert added.returncode == 0, added.stderr
    assert "tags mean nothing" in added.stdout
    assert "tags mean nothing" in run(("models", "verify", "random-tiny"), env).stdout


def test_an_added_model_tags_and_is_judged(env: dict[str, str], file: Path, tmp_path: Path) -> None:
    added = run(("models", "add", "tiny", "--weights", file, "--network", TINY), env)
    assert added.returncode == 0, added.stderr
    photos = tmp_path / "photos" / "ann"
    photos.mkdir(parents=True)
    for picture, wnid in (("rings", "n03065424"), ("traffic light", "n06874185")):
        Image.fromarray(canary.draw(picture, 300)).save(photos / f"{wnid}_{picture}.png")

    tagged = run(("tag", photos.parent, "--model", "tiny", "--json"), env)
    assert tagged.returncode == 0, tagged.stderr
    (report,) = map(json.loads, tagged.stdout.splitlines())
    assert (report["state"], report["counts"]["succeeded"]) == ("succeeded", 2)
    job = json.loads(run(("jobs", "show", report["job"], "--json"), env).stdout)
    assert job["model"] == "tiny"
    assert wait_until_stopped(tmp_path / "home")

    judged = run(("evaluate", photos, "--model", "tiny", "--splits", 1, "--json"), env)
    assert judged.returncode == 0, judged.stderr
    assert json.loads(judged.stdout.splitlines()[0])["model"] == "tiny"


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("add", "tiny", "--weights", "tiny.pth", "--network", "timm:resnet18"), 1, "do not fit timm:resnet18"),
        (("add", "../tiny", "--weights", "tiny.pth", "--network", TINY), 2, "is no model's name"),
        (("add", "timm:test_efficientnet", "--weights", "none.pth"), 2, "cannot be read"),
        (("verify", "nothing"), 2, "There is no model 'nothing'"),
        (("remove", "efficientnet-lite0"), 2, "is bundled"),
    ],
)
def test_wrong_use_is_one_sentence(
    arguments: tuple[str, ...], status: int, told: str, env: dict[str, str], file: Path, tmp_path: Path
) -> None:
    result = run(("models", *arguments), env, tmp_path)
    assert result.returncode == status
    assert result.stdout == ""
    assert told in result.stderr
    assert len(result.stderr.splitlines()) == 1
