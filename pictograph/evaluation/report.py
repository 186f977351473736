"""An evaluation as one HTML page to look at: no scripts, nothing fetched, the photos of the worst mistakes inside."""

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from pictograph.evaluation.charts import STYLES, reliability_diagram, right_against_bits
from pictograph.evaluation.measure import RuleResult, SetResult
from taxonomy.graph import Taxonomy
from taxonomy.metrics import CategoryMetrics, HeadlineMetrics

THUMBNAIL = 200  # pixels, longest side

RULES_NOTE = (  # above the rules' tables
    "Here every photo is said something: vague categories count, and the root is right and tells nothing. "
    "What users see is stricter: a vague category is never shown, and the photo is abstained."
)

# Column, what it means, and how it is had from a rule's measures. The same words for people everywhere.
MEASURES: tuple[tuple[str, str, Callable[[HeadlineMetrics], float]], ...] = (
    ("right or root", "the true synset or one above it, the root included", lambda found: found.right),
    ("wrong", "neither that nor finer than is known", lambda found: found.wrong),
    ("bits", "told per photo; a single label tells all there are", lambda found: found.bits),
    ("hF1", "overlap of what lies above what is said and above the truth", lambda found: found.hf1),
    ("exact", "right, and nothing right says more", lambda found: found.exact),
    ("useful", "right, and not vague", lambda found: found.true_useful),
    ("rescue", "useful where the top label is wrong", lambda found: found.rescue),
    ("vague", "says a category of 40 % of the labels or more", lambda found: found.vague),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A mistake, ready to be shown."""

    jpeg: bytes  # small; empty where the photo could not be read again
    file: str
    true: str  # what it shows
    said: str
    mass: float
    leaves: tuple[tuple[str, float], ...]  # the labels behind it


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One set of the report."""

    result: SetResult
    cards: tuple[Card, ...]


def html(title: str, about: str, sections: Sequence[Section], taxonomy: Taxonomy) -> str:
    """The whole page."""
    whole = math.log2(taxonomy.classes) or 1.0
    body = "".join(_section(section, taxonomy, whole) for section in sections)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{escape(title)}</h1><p>{escape(about)}</p>{body}"
        f"{_glossary()}</body></html>\n"
    )


def _section(section: Section, taxonomy: Taxonomy, whole: float) -> str:
    result = section.result
    curves = right_against_bits(result.rules, result.default, whole)
    return (
        f"<section><h2>{escape(result.name)}</h2>{_tiles(result)}"
        f"<div class=row><figure>{curves}<figcaption>Up and to the right is better. The dot is what users see."
        f"</figcaption></figure><figure>{reliability_diagram(result.masses, result.labels)}<figcaption>On the dashed "
        f"line what is said with 0.9 is right 9 times of 10; above it, more often. Mean gap of the shown headlines: "
        f"{_share(result.headlines.error)}.</figcaption></figure></div>{_rules(result.rules)}"
        f"{_cards(section.cards, result)}{_categories(result.categories, taxonomy)}</section>"
    )


def _tiles(result: SetResult) -> str:
    seen = result.default
    tiles = (
        (_share(seen.right), "right"),
        (_share(seen.wrong), f"wrong ({_share(seen.wrong_of_shown)} of those shown)"),
        (_share(seen.abstained), "abstained"),
        (_share(seen.finer), "finer than is known"),
        (f"{seen.bits:.2f}", "bits per photo"),
        (_share(result.tags.precision), f"of {result.tags.tags:.1f} tags per photo right"),
        (_share(result.top1), f"top-1 ({_share(result.top5)} top-5) of the labels alone"),
    )
    boxes = "".join(f"<div><b>{escape(value)}</b>{escape(what)}</div>" for value, what in tiles)
    unread = f"; {result.unreadable} could not be read" if result.unreadable else ""
    return f"<p>What users see on {result.photos:,} photos{unread}.</p><div class=tiles>{boxes}</div>"


def _rules(rules: Sequence[RuleResult]) -> str:
    matched = rules[0].matched
    heads = "".join(f"<th>{name}</th>" for name, _, _ in MEASURES)
    groups = f"<th rowspan=2>rule</th><th colspan={len(MEASURES)}>at its natural constant</th><th rowspan=2>hAURC</th>"
    if matched is not None:
        groups += f"<th colspan={len(MEASURES)}>calibrated to {_share(matched.target)} on one half, on the other</th>"
    rows = "".join(_rule(rule) for rule in rules)
    both = heads * (1 if matched is None else 2)
    note = "" if matched is not None else "<p>Too few photos to calibrate on half of them.</p>"
    return (
        f"<h3>Rules</h3><p>{RULES_NOTE}</p><div class=wide><table><thead><tr>{groups}</tr><tr>{both}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _rule(rule: RuleResult) -> str:
    colour = STYLES.get(rule.name, ("inherit",))[0]
    cells = [_cell(of(rule.metrics), name) for name, _, of in MEASURES]
    cells.append(
        f"<td title='{1000 * rule.haurc.low:.0f} to {1000 * rule.haurc.high:.0f}'>{1000 * rule.haurc.value:.0f}</td>"
    )
    if rule.matched is not None:
        splits = rule.matched.splits
        cells.extend(_cell(sum(of(split) for split in splits) / len(splits), name) for name, _, of in MEASURES)
    return f'<tr><th title="{escape(rule.about)}" style="color:{colour}">{escape(rule.name)}</th>{"".join(cells)}</tr>'


def _cell(value: float, name: str) -> str:
    if math.isnan(value):
        return "<td>–</td>"
    return f"<td>{value:.2f}</td>" if name == "bits" else f"<td>{value:.3f}</td>"


def _cards(cards: Sequence[Card], result: SetResult) -> str:
    wrong = round(result.default.wrong * result.photos)
    if not cards:
        return "<h3>Mistakes</h3><p>No shown headline is wrong.</p>"
    shown = "".join(_card(card) for card in cards)
    which = "" if wrong <= len(cards) else f", the surest {len(cards)} of {wrong}"
    return f"<h3>Mistakes{which}</h3><div class=cards>{shown}</div>"


def _card(card: Card) -> str:
    data = base64.b64encode(card.jpeg).decode()
    picture = f'<img alt="{escape(card.file)}" src="data:image/jpeg;base64,{data}">' if card.jpeg else ""
    leaves = "".join(
        f'<li><span class=bar style="width:{100 * mass:.0f}%"></span><span>{escape(name)}</span><i>{mass:.2f}</i></li>'
        for name, mass in card.leaves
    )
    return (
        f"<article><div class=photo>{picture}</div><p><b>{escape(card.said)}</b> {card.mass:.2f}<br>"
        f"really {escape(card.true)}</p><ul>{leaves}</ul><small>{escape(card.file)}</small></article>"
    )


def _categories(found: CategoryMetrics, taxonomy: Taxonomy) -> str:
    order = sorted(range(len(found.nodes)), key=lambda place: (-int(found.true[place]), -int(found.said[place])))
    rows = "".join(
        f"<tr><th>{escape(taxonomy.synsets[int(found.nodes[place])].name)}</th><td>{found.true[place]}</td>"
        f"<td>{found.said[place]}</td><td>{found.both[place]}</td>{_cell(float(found.precision[place]), '')}"
        f"{_cell(float(found.recall[place]), '')}{_cell(float(found.f1[place]), '')}</tr>"
        for place in order
    )
    heads = "".join(f"<th>{head}</th>" for head in ("category", "true", "said", "both", "precision", "recall", "F1"))
    return (
        f"<details><summary>{len(order)} categories: precision, recall and F1 of the shown tags</summary>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></details>"
    )


def _glossary() -> str:
    terms = "".join(f"<dt>{name}</dt><dd>{escape(what)}</dd>" for name, what, _ in MEASURES)
    area = "area under risk against coverage, in thousandths, less is better; its 95 % interval is in the tooltip"
    return f"<section><h2>Words</h2><dl>{terms}<dt>hAURC</dt><dd>{area}</dd></dl></section>"


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f} %"


_STYLE = """
:root{color-scheme:light dark;--soft:color-mix(in srgb,currentColor 12%,transparent)}
body{font:15px/1.45 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{margin:2.5rem 0 .3rem;border-bottom:1px solid var(--soft)}h3{margin:1.4rem 0 .4rem}
p{margin:.4rem 0}
.tiles{display:flex;flex-wrap:wrap;gap:.6rem;margin:.6rem 0}
.tiles div{border:1px solid var(--soft);border-radius:8px;padding:.5rem .8rem;font-size:.85rem;max-width:11rem}
.tiles b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}
.row{display:flex;flex-wrap:wrap;gap:1rem}figure{flex:1 1 460px;margin:.6rem 0}figure svg{width:100%;height:auto}
figcaption,small{font-size:.8rem;opacity:.75}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.82rem;font-variant-numeric:tabular-nums}
th,td{padding:.15rem .5rem;text-align:right;border-bottom:1px solid var(--soft);white-space:nowrap}
tbody th,thead tr:first-child th:first-child,details thead th:first-child{text-align:left}
thead tr:first-child th[colspan]{text-align:center}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(200px,1fr));gap:1rem}
article{border:1px solid var(--soft);border-radius:8px;overflow:hidden;padding-bottom:.5rem}
article p,article small{display:block;padding:0 .6rem;overflow-wrap:anywhere}
.photo{height:170px;background:var(--soft);display:flex;justify-content:center}
.photo img{height:100%;width:100%;object-fit:contain}
article ul{list-style:none;margin:.3rem 0;padding:0 .6rem;font-size:.8rem}
article li{position:relative;display:flex;justify-content:space-between;gap:.5rem;padding:1px 4px;margin:2px 0}
article li i{font-style:normal;font-variant-numeric:tabular-nums}
.bar{position:absolute;inset:0 auto 0 0;background:#0072b2;opacity:.2;border-radius:3px}
details{margin:1.2rem 0}summary{cursor:pointer}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem}dd{margin:0}dt{font-weight:600}
"""
