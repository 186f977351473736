"""Pictures are drawn apart from the server, and a few at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from api import drawing
from api.drawing import AT_ONCE, MOST_PIXELS, Drawing
from api.errors import Problem
from pipeline.errors import PictographError
from pipeline.png import png, png_apart

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><text x="5" y="20">h\u00fctte</text></svg>'


def test_a_picture_is_the_same_wherever_it_is_drawn() -> None:
    assert png_apart(SVG) == png(SVG)
    assert Drawing().png(SVG, 90, 60) == png(SVG)


def test_what_cannot_be_drawn_is_an_error_in_one_line() -> None:
    with pytest.raises(PictographError, match="could not be drawn") as failed:
        png_apart("no picture")
    assert "\n" not in str(failed.value)


def test_a_picture_has_no_more_pixels_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    scales: list[float] = []
    monkeypatch.setattr(drawing, "png_apart", lambda _, scale: scales.append(scale) or b"")
    for width, height in ((960, 600), (4096, 4096)):
        Drawing().png(SVG, width, height)
        assert scales[-1] ** 2 * width * height <= MOST_PIXELS * 1.001
    assert scales[0] == 2.0


def test_who_waits_too_long_for_a_picture_is_told_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(svg: str, scale: float) -> bytes:
        begun.release()
        go_on.wait(60)
        return b"drawn"

    monkeypatch.setattr(drawing, "png_apart", slow)
    made = Drawing(turn_seconds=0.0)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        drawn = [pool.submit(made.png, SVG, 90, 60) for _ in range(AT_ONCE)]
        try:
            for _ in drawn:
                assert begun.acquire(timeout=60)
            with pytest.raises(Problem, match="Too many pictures") as busy:
                made.png(SVG, 90, 60)
            assert (busy.value.status, busy.value.code, busy.value.retry_after_seconds) == (503, "busy", 5)
        finally:
            go_on.set()
        assert [each.result() for each in drawn] == [b"drawn"] * AT_ONCE
    assert made.png(SVG, 90, 60) == b"drawn"  # who is done gives the turn back
