"""Whatever lies among the photos is tagged or fails for its own reason; the job and its neighbours go on."""

import io
import random
from pathlib import Path

import pytest
from PIL import Image

from pipeline.records import Code, ItemState
from tests.acceptance.conftest import Site

TAGGED = ItemState.SUCCEEDED


def picture(mode: str = "RGB", size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Soft noise in any mode, so that nothing compresses to almost nothing."""
    small = Image.frombytes("RGB", (16, 12), random.Random(7).randbytes(16 * 12 * 3))
    return small.resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    return encoded(picture(), "JPEG", exif=exif)


def animated() -> bytes:
    frames = [picture().convert("P"), picture("RGB", (320, 240)).rotate(90).convert("P")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def palette_with_alpha() -> bytes:
    return encoded(picture().convert("P"), "PNG", transparency=0)


def sixteen_bit() -> bytes:
    grey = picture("L")
    return encoded(Image.frombytes("I;16", grey.size, bytes(b for v in grey.tobytes() for b in (0, v))), "PNG")


#: Name to (bytes, state, code); Code.NONE where either outcome of the model will do.
ODDITIES = {
    "good.jpg": (encoded(picture(), "JPEG"), TAGGED, Code.NONE),
    "text.txt": (b"This is no photo.", ItemState.FAILED, Code.UNSUPPORTED),
    "vector.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ItemState.FAILED, Code.UNSUPPORTED),
    "empty.jpg": (b"", ItemState.FAILED, Code.UNSUPPORTED),
    "truncated.jpg": (encoded(picture(), "JPEG")[:3000], ItemState.FAILED, Code.CORRUPT),
    "one pixel.png": (encoded(picture("RGB", (1, 1)), "PNG"), TAGGED, Code.NONE),
    "wide.png": (encoded(Image.new("L", (50_000, 2)), "PNG"), ItemState.FAILED, Code.TOO_LARGE),
    "cmyk.jpg": (encoded(picture("CMYK"), "JPEG"), TAGGED, Code.NONE),
    "sixteen bit.png": (sixteen_bit(), TAGGED, Code.NONE),
    "palette.png": (palette_with_alpha(), TAGGED, Code.NONE),
    "alpha.webp": (encoded(picture("RGBA"), "WEBP"), TAGGED, Code.NONE),
    "grey.jpg": (encoded(picture("L"), "JPEG"), TAGGED, Code.NONE),
    "rotated.jpg": (rotated(), TAGGED, Code.NONE),
    "animated.gif": (animated(), TAGGED, Code.NONE),
    "name with \u00e9 [red] and \U0001f431.jpg": (encoded(picture(), "JPEG", comment="\u00e9"), TAGGED, Code.NONE),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("odd") / "uma"
    place.mkdir()
    for name, (data, _, _) in ODDITIES.items():
        (place / name).write_bytes(data)
    return place.parent


@pytest.fixture(scope="module")
def outcomes(site: Site, folder: Path) -> dict[str, tuple[ItemState, Code, str | None]]:
    """State, code and message by file name, after one run over all of them."""
    report = site.tag(folder)
    assert report["state"] == "succeeded_with_errors"
    rows = site.rows(
        "SELECT key, state, code, message FROM core.job_item JOIN core.photo USING (photo_id) WHERE job_id = :job",
        job=report["job"],
    )
    return {Path(key).name: (ItemState(state), Code(code), message) for key, state, code, message in rows}


@pytest.mark.parametrize("name", ODDITIES)
def test_each_ends_as_it_must(outcomes, name):
    _, state, code = ODDITIES[name]
    found = outcomes[name]
    assert found[0] == state
    if state is ItemState.FAILED:
        assert found[1] == code
        assert found[2].endswith(".")
        assert "Error" not in found[2]


def test_what_failed_is_not_tried_again_until_it_changes(site, folder, outcomes):
    counts = site.tag(folder)["counts"]
    assert counts["skipped_unchanged"] == counts["total"] == len(ODDITIES)
    (folder / "uma" / "truncated.jpg").write_bytes(ODDITIES["good.jpg"][0])
    counts = site.tag(folder)["counts"]
    assert (counts["duplicate"], counts["skipped_unchanged"]) == (1, len(ODDITIES) - 1)  # of good.jpg


def test_failures_are_shown_and_with_strict_an_exit_status(site, tmp_path):
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "broken [1].jpg").write_bytes(ODDITIES["truncated.jpg"][0])
    report = site.report("tag", tmp_path, "--strict", status=1)
    assert report["counts"]["failed"] == 1
    shown = site.run("jobs", "show", report["job"]).stdout
    assert f"{tmp_path}/ann/broken [1].jpg: corrupt." in shown
    assert site.report("jobs", "show", report["job"])["failures"][0]["code"] == "corrupt"


def test_a_symbolic_link_is_not_followed(site, folder, tmp_path):
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "link.jpg").symlink_to(folder / "uma" / "good.jpg")
    assert site.tag(tmp_path)["reasons"] == {"not_a_photo": 1}
