"""A picture of ours as PNG: the same bytes for the same SVG, on every machine.

The words are set in DejaVu Sans, which ships with the product (`fonts/LICENSE.txt`), and in nothing else: whatever the
machine has is not looked at. Letters that it does not have are drawn as boxes.
"""

from functools import cache
from pathlib import Path

from resvg_py import svg_to_bytes

FONTS = Path(__file__).parent / "fonts"
FAMILY = "DejaVu Sans"
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


@cache
def _files() -> tuple[str, ...]:
    return tuple(str(file) for file in sorted(FONTS.glob("*.ttf")))
