"""A picture of ours as PNG: the same bytes for the same SVG, on every machine.

The words are set in DejaVu Sans, which ships with the product (`fonts/LICENSE.txt`), and in nothing else: whatever the
machine has is not looked at. Letters that it does not have are drawn as boxes.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from resvg_py import svg_to_bytes

from pipeline.errors import PictographError, ServiceDown

FONTS = Path(__file__).parent / "fonts"
FAMILY = "DejaVu Sans"
SECONDS = 20.0  # for a picture, on a machine that has other things to do
NICENESS = 5  # what is drawn gives way to what is answered
SCALE = 2.0  # pixels of the PNG per pixel of the SVG, for dense screens and for print


def png(svg: str, scale: float = SCALE) -> bytes:
    """The SVG as PNG, on white, `scale` times as wide and high."""
    return bytes(
        svg_to_bytes(
            svg_string=svg,
            background="#ffffff",
            zoom=scale,
            skip_system_fonts=True,
            font_files=list(_files()),
            font_family=FAMILY,
            sans_serif_family=FAMILY,
        )
    )


def png_apart(svg: str, scale: float = SCALE) -> bytes:
    """The same from a process of its own: the library holds Python's lock, and no thread of ours would move meanwhile.

    Raises:
        ServiceDown: the machine is too busy.
    """
    command = [sys.executable, "-m", "pipeline.png", str(scale)]
    try:
        drawn = subprocess.run(command, input=svg.encode(), capture_output=True, check=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as slow:
        raise ServiceDown("A picture was not drawn in time.") from slow
    except subprocess.CalledProcessError as failed:
        why = failed.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise PictographError(f"A picture could not be drawn: {''.join(why) or failed}") from failed
    return drawn.stdout


@cache
def _files() -> tuple[str, ...]:
    return tuple(str(file) for file in sorted(FONTS.glob("*.ttf")))


if __name__ == "__main__":
    os.nice(NICENESS)
    sys.stdout.buffer.write(png(sys.stdin.buffer.read().decode(), float(sys.argv[1])))
