"""What a worker uses, from what the machine has and from what the settings say."""

from types import SimpleNamespace

import pytest

from pipeline.settings import Settings
from workers.tuning import Machine, look, quota_cores, tune


def classifier(device="cpu", batch=32, in_flight=2):
    return SimpleNamespace(
        spec=SimpleNamespace(name="small"),
        runtime="openvino",
        precision="bf16",
        device=device,
        batch_photos=batch,
        in_flight=in_flight,
    )


def settings(**values):
    return Settings(**values)


@pytest.mark.parametrize(
    ("cores", "device", "decoders", "requests"),
    [
        (2, "cpu", 2, 16),
        (1, "cpu", 1, 16),  # 8 a core, but never fewer than 16
        (0.5, "cpu", 1, 16),
        (2.5, "cpu", 2, 16),
        (6, "cpu", 6, 48),
        (64, "cpu", 64, 128),  # nor more than 128
        (16, "cuda:0 NVIDIA H200", 14, 128),  # two cores are left to the rest
        (2, "cuda:0 NVIDIA T4", 1, 16),
    ],
)
def test_what_is_automatic_follows_the_machine(cores, device, decoders, requests):
    tuned = tune(settings(), Machine(cores=cores), classifier(device))
    assert (tuned.decode_processes, tuned.fetch_threads, tuned.batch_photos) == (decoders, requests, 32)


def test_settings_come_before_what_is_automatic():
    tuned = tune(settings(decode_processes=7, fetch_threads=3, fetch_bytes=1000), Machine(cores=2), classifier())
    assert (tuned.decode_processes, tuned.fetch_threads, tuned.fetch_bytes) == (7, 3, 1000)


@pytest.mark.parametrize(
    ("batch", "in_flight", "shard_photos", "ahead"),
    [
        (32, 2, 512, 2),  # 4 x 32 = 128 photos in the ring are a part of one shard
        (256, 3, 512, 4),  # 5 x 256 = 1,280 are two shards and a half
        (8, 2, 10, 5),  # 4 x 8 = 32 are three small ones
    ],
)
def test_enough_shards_are_claimed_to_fill_the_buffers(batch, in_flight, shard_photos, ahead):
    made = classifier(batch=batch, in_flight=in_flight)
    assert tune(settings(shard_photos=shard_photos), Machine(cores=2), made).shards_ahead == ahead


def test_the_line_says_what_and_how_to_change_it():
    line = str(tune(settings(decode_processes=1), Machine(cores=2), classifier()))
    assert line.startswith(
        "small by openvino bf16 on cpu, 2 cores: batches of 32, 1 decoder, 16 requests and 256 MB in flight"
    )
    for name in ("BATCH_PHOTOS", "DECODE_PROCESSES", "FETCH_THREADS", "FETCH_BYTES"):
        assert name in line
        assert hasattr(settings(), name.lower())


def test_this_machine_has_something_to_work_with():
    assert look().cores > 0


# ---- control groups


@pytest.fixture
def group(tmp_path):
    """A process in the group /kube/pod of a tree without limits."""
    root = tmp_path / "cgroup"
    (root / "kube/pod").mkdir(parents=True)
    (tmp_path / "self").write_text("0::/kube/pod\n")
    (root / "kube/pod/cpu.max").write_text("max 100000\n")
    return tmp_path


def limit(group, where, text):
    (group / "cgroup" / where / "cpu.max").write_text(text)


def cores(group):
    return quota_cores(group / "self", group / "cgroup")


def test_without_a_quota_there_is_none(group):
    assert cores(group) is None


def test_a_quota_is_a_number_of_cores(group):
    limit(group, "kube/pod", "150000 100000\n")
    assert cores(group) == 1.5


def test_the_tightest_quota_on_the_way_up_counts(group):
    limit(group, "kube/pod", "400000 100000\n")
    limit(group, "kube", "200000 100000\n")
    assert cores(group) == 2


def test_in_a_container_of_its_own_the_group_is_the_root(group):
    (group / "self").write_text("0::/\n")
    limit(group, ".", "50000 100000\n")
    assert cores(group) == 0.5


def test_outside_of_control_groups_there_is_no_quota(tmp_path):
    assert quota_cores(tmp_path / "nothing", tmp_path) is None
    (tmp_path / "old").write_text("12:cpu,cpuacct:/\n")  # version 1
    assert quota_cores(tmp_path / "old", tmp_path) is None
