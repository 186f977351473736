"""Settings: what a child process is told, and names that mean nothing."""

import pytest

from pipeline.settings import PREFIX, Settings


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)
    monkeypatch.delenv("PICTOGRAPH_TEST_PHOTOS", raising=False)


@pytest.mark.parametrize("home", ["data", "./data", "~/data"])
def test_a_child_in_another_folder_finds_the_same_data_folder(home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Settings(home=home).environment()["PICTOGRAPH_HOME"] == str(tmp_path / "data")


def test_a_child_reads_the_settings_of_its_parent(monkeypatch, tmp_path):
    settings = Settings(home=tmp_path, broker_url="redis://:secret@b/0", debug=True, lease_seconds=2.5)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.read() == settings


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("PICTOGRAPH_BACTH_PHOTOS", "did you mean PICTOGRAPH_BATCH_PHOTOS?"),
        ("PICTOGRAPH_S3_ENDPOINT", "did you mean PICTOGRAPH_S3_ENDPOINT_URL?"),
        ("pictograph_homee", "did you mean PICTOGRAPH_HOME?"),
        ("PICTOGRAPH_QQQQQQQQQQQQQQQQQQQ", "the README lists those that are."),
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_the_nearest(monkeypatch, name, hint):
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("pictograph_model", "x")  # read in any case of letters, and so no mistake
    assert Settings.misspelt() == [f"{name} is no setting and is ignored; {hint}"]
