"""Weights that lie in a real S3: read once, pinned, and kept by their hash."""

from pathlib import Path

import pytest

from pipeline.errors import ConfigurationError, ModelError
from pipeline.settings import Settings
from pipeline.sources.s3 import S3Access

torch = pytest.importorskip("torch", reason="torch is not installed")

from safetensors.torch import save  # noqa: E402  (after the skip)

from workers.models import networks, registry, weights  # noqa: E402
from workers.models.adding import Addition, add, faults  # noqa: E402

TINY = "timm:test_efficientnet"


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Settings:
    """Settings with a models' folder of the test's own."""
    return settings.model_copy(update={"models": tmp_path / "models"})


@pytest.fixture
def uri(s3: S3Access, bucket: str) -> str:
    data = save(networks.seeded(TINY, "random:1").state_dict())
    s3.client().put_object(Bucket=bucket, Key="nets/tiny one.safetensors", Body=data)
    return f"s3://{bucket}/nets/tiny one.safetensors"


def kept(here: Settings) -> list[str]:
    return sorted(path.name for path in (registry.folder_of(here) / weights.CACHE).glob("*"))


def test_weights_in_s3_are_read_once_and_trusted_by_their_hash(
    uri: str, here: Settings, s3: S3Access, bucket: str, tmp_path: Path
) -> None:
    spec = add(Addition(name="tiny", uri=uri, network=TINY), here)
    assert spec.weights.uri == uri
    assert kept(here) == [spec.weights.sha256]

    # Another machine has the description, and nothing else.
    other = here.model_copy(update={"models": tmp_path / "other"})
    registry.write(registry.get("tiny", registry.folder_of(here)), registry.folder_of(other))
    assert faults(registry.get("tiny", registry.folder_of(other)), other) == []
    assert kept(other) == [spec.weights.sha256]

    s3.client().delete_object(Bucket=bucket, Key="nets/tiny one.safetensors")
    networks.build(weights.at_hand(spec, other))  # it has been read


def test_what_was_kept_and_is_damaged_is_read_again(uri: str, here: Settings) -> None:
    spec = add(Addition(name="tiny", uri=uri, network=TINY), here)
    cached = registry.folder_of(here) / weights.CACHE / spec.weights.sha256
    cached.write_bytes(cached.read_bytes()[:-1])
    networks.build(weights.at_hand(spec, here))
    assert kept(here) == [spec.weights.sha256]


def test_weights_that_were_replaced_in_s3_are_refused_and_not_kept(
    uri: str, here: Settings, s3: S3Access, bucket: str, tmp_path: Path
) -> None:
    spec = add(Addition(name="tiny", uri=uri, network=TINY), here)
    s3.client().put_object(Bucket=bucket, Key="nets/tiny one.safetensors", Body=b"something else")
    other = here.model_copy(update={"models": tmp_path / "other"})
    with pytest.raises(ModelError, match="not the weights file that was pinned"):
        weights.at_hand(spec, other)
    assert kept(other) == []
    with pytest.raises(ModelError, match="not the weights file that was pinned"):
        add(Addition(name="again", uri=uri, network=TINY, sha256=spec.weights.sha256), other)


def test_weights_that_are_not_in_s3_are_missed_by_name(here: Settings, bucket: str) -> None:
    for uri in (f"s3://{bucket}/none.pth", f"s3://{bucket}/", "s3://no-such-bucket-at-all/none.pth"):
        with pytest.raises(ConfigurationError, match=r"none\.pth|no-such-bucket|valid S3 name"):
            add(Addition(name="tiny", uri=uri, network=TINY), here)
    assert kept(here) == []
