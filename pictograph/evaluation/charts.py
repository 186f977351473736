"""The two diagrams of a report, as SVG text: right against bits, and how far stated masses can be trusted. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from pictograph.evaluation.measure import RuleResult
from taxonomy.metrics import HeadlineMetrics, Reliability

WIDTH, HEIGHT = 560, 380
LEFT, TOP, RIGHT, BOTTOM = 60, 14, 120, 44  # margins; lines are named at the right
LINE = 15  # least distance between two names, in pixels

# Okabe and Ito's colours, which the colour-blind can tell apart; what is not named here is drawn in grey.
STYLES = {
    "shipped": ("#0072b2", 3.0, ""),
    "climb-tree": ("#d55e00", 1.8, ""),
    "climb-dag": ("#e69f00", 1.4, "6 3"),
    "darts": ("#009e73", 1.8, ""),
    "additive": ("#56b4e9", 1.4, "6 3"),
    "leaf": ("#cc79a7", 1.8, ""),
    "noisy_or": ("#777777", 1.2, "2 3"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Axes:
    most_x: float
    least_y: float

    def x(self, value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * value / self.most_x

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value) / (1 - self.least_y)


def right_against_bits(rules: Sequence[RuleResult], default: HeadlineMetrics, whole: float) -> str:
    """What each rule tells, and how often it is right, over all its constants; the dot is what users see.

    Rules without a style are left out; the dot is right where it says nothing wrong, as the lines are. `whole` are the
    bits of a single label.
    """
    drawn = [rule for rule in rules if rule.name in STYLES]
    lowest = min((float(rule.curve.safe.min()) for rule in drawn), default=0.5)
    axes = _Axes(most_x=whole, least_y=min(0.9, np.floor(lowest * 10) / 10))
    parts = [*_frame(axes, "bits told per photo", "share of photos told nothing wrong", step=2)]
    ends = _spread([axes.y(float(rule.curve.safe[0])) for rule in drawn])
    for rule, height in zip(drawn, ends, strict=True):
        colour, width, dashes = STYLES[rule.name]
        points = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in _curve(rule))
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}" '
            f'stroke-dasharray="{dashes}" stroke-linejoin="round"/>'
        )
        weight = "bold" if rule.name == "shipped" else "normal"
        parts.append(_text(WIDTH - RIGHT + 8, height + 4, rule.name, colour=colour, weight=weight))
    x, y = axes.x(default.bits), axes.y(1 - default.wrong)
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="#0072b2" stroke="#fff" stroke-width="1.5"/>')
    return _svg(parts, "Share of photos told nothing wrong against bits told, by rule")


def reliability_diagram(masses: Reliability, labels: Reliability) -> str:
    """How many of the statements with a confidence are right: of categories' masses, and of the top labels alone.

    The area of a dot is its share of the photos, or of the masses.
    """
    axes = _Axes(most_x=1.0, least_y=0.0)
    parts = [*_frame(axes, "mass, or probability of the top label", "share of them that is right", step=0.2)]
    corner = f'x1="{axes.x(0):.1f}" y1="{axes.y(0):.1f}" x2="{axes.x(1):.1f}" y2="{axes.y(1):.1f}"'
    parts.append(f'<line {corner} stroke="currentColor" stroke-opacity="0.4" stroke-dasharray="4 4"/>')
    for row, (name, found, colour) in enumerate((("top labels", labels, "#d55e00"), ("categories", masses, "#0072b2"))):
        parts.extend(_dots(axes, found, colour))
        parts.append(_text(WIDTH - RIGHT + 20, TOP + 20 * (row + 1), name, colour=colour, weight="bold"))
    return _svg(parts, "Share of right statements against their confidence")


def _dots(axes: _Axes, found: Reliability, colour: str) -> Iterator[str]:
    whole = max(1, int(found.photos.sum()))
    places = np.flatnonzero(found.photos).tolist()
    points = [(axes.x(float(found.confidence[place])), axes.y(float(found.right[place]))) for place in places]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-opacity="0.6"/>'
    for place, (x, y) in zip(places, points, strict=True):
        number = int(found.photos[place])
        title = f"{number}: said {found.confidence[place]:.2f}, right {found.right[place]:.2f}"
        radius = 2 + 14 * (number / whole) ** 0.5
        dot = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.45" stroke="{colour}"'
        yield f"<circle {dot}><title>{title}</title></circle>"


def _curve(rule: RuleResult) -> list[tuple[float, float]]:
    """A rule's points from silence to its boldest, without those that add nothing to the line."""
    points = zip(rule.curve.bits.tolist(), rule.curve.safe.tolist(), strict=True)
    return sorted({(round(bits, 2), round(safe, 4)) for bits, safe in points})


def _spread(heights: Sequence[float]) -> list[float]:
    """Heights, moved up where they would be nearer than a line of text, from the bottom of the frame on."""
    moved = [0.0] * len(heights)
    lowest: float = HEIGHT - BOTTOM
    for place in np.argsort(heights, kind="stable")[::-1].tolist():
        moved[place] = min(heights[place], lowest)
        lowest = moved[place] - LINE
    return moved


def _frame(axes: _Axes, along: str, up: str, step: float) -> Iterator[str]:
    low, high = axes.y(axes.least_y), axes.y(1)
    for value in np.arange(0, axes.most_x + 1e-9, step):
        x = axes.x(float(value))
        yield f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{low + 5:.1f}" stroke="currentColor"/>'
        yield _text(x, low + 18, f"{value:g}" if step >= 1 else f"{value:.1f}", anchor="middle")
    height = next(
        height for height in (0.2, 0.1, 0.05, 0.02) if (1 - axes.least_y) / height >= 4 - 1e-9 or height == 0.02
    )
    for value in np.arange(1, axes.least_y - 1e-9, -height):
        y = axes.y(float(value))
        line = f'x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"'
        yield f'<line {line} stroke="currentColor" stroke-opacity="0.15"/>'
        yield _text(LEFT - 8, y + 4, f"{value:.2f}", anchor="end")
    yield f'<path d="M{LEFT} {high:.1f}V{low:.1f}H{WIDTH - RIGHT}" fill="none" stroke="currentColor"/>'
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, along, anchor="middle")
    middle = (high + low) / 2
    yield (
        f'<text transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle" fill="currentColor">'
        f"{escape(up)}</text>"
    )


def _text(
    x: float, y: float, words: str, anchor: str = "start", colour: str = "currentColor", weight: str = "normal"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="12">{"".join(parts)}</svg>'
    )
