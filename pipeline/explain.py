"""Why a photo has, or has not, a tag: the labels that make a category's mass, and every step from there to the tag.

Law of the file, over integers and so exactly: the parts add up to the number shown,

    mass = sum of `parts` + `withheld` + `rest`.

`parts` are the labels under the category that hold at least 2 % of the photo; `withheld` is what lies in labels that
the policy shows only as a broader category (they are not named); `rest` is all other labels, each under 2 %, and what
rounding down leaves over. Only what is stored is read: nothing is classified again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pipeline.errors import ConfigurationError
from pipeline.profile import BROAD
from pipeline.store.evidence import Evidence
from taxonomy.graph import Taxonomy
from taxonomy.lookup import titled
from taxonomy.policy import Policy, coarsen_photo

KEPT = "0.02"  # the least share of a photo that is stored, as people read it


class Coarsened(ConfigurationError):
    """The policy shows the category only as a broader one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One label's share of a category's mass."""

    wnid: str
    name: str
    mass: int  # ten-thousandths of a photo; > 0; of a label above other labels, what lies in none of those named


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """A category's mass in one photo, taken apart."""

    photo_id: int
    wnid: str
    name: str
    mass: int  # ten-thousandths of a photo, as shown; 0 where it is under 0.02 and so not stored
    parts: tuple[Part, ...]  # largest first
    withheld: int
    rest: int
    rule: str
    threshold: int  # a tag's least mass
    decision_revision: int
    policy_version: int  # 0: no policy
    tag: bool  # shown as a tag of the photo
    headline: bool
    steps: tuple[str, ...]  # the same in sentences, in order


def explain(evidence: Evidence, node: int, taxonomy: Taxonomy, policy: Policy) -> Explanation:
    """Take apart the mass of a node in a photo, as the policy shows it.

    Raises:
        Coarsened: the policy does not show the node; the message names what it shows instead.
    """
    if node in policy.hidden:
        instead = titled(policy.show(node), taxonomy)
        raise Coarsened(f"The policy shows {titled(node, taxonomy)} only as {instead}; ask for that.")
    shown = coarsen_photo(evidence.found, policy, taxonomy)
    stored = dict(zip(evidence.found.columns.tolist(), evidence.found.masses.tolist(), strict=True))
    mass = dict(zip(shown.columns.tolist(), shown.masses.tolist(), strict=True)).get(node, 0)
    own = _own(taxonomy.label_sets[node] - policy.lost.get(node, frozenset()), stored, taxonomy) if mass else {}
    # What is shown here of hidden labels is said in one sum. Rounding may leave it too large by a bit.
    hidden = {label for label in own if int(taxonomy.label_nodes[label]) in policy.hidden}
    named = {label: held for label, held in own.items() if label not in hidden}
    withheld = min(sum(own[label] for label in hidden), mass - sum(named.values()))
    synset = taxonomy.synsets[node]
    made = Explanation(
        photo_id=evidence.photo_id,
        wnid=synset.wnid,
        name=synset.name,
        mass=mass,
        parts=_named(named, taxonomy),
        withheld=withheld,
        rest=mass - sum(named.values()) - withheld,
        rule=evidence.rule,
        threshold=evidence.threshold,
        decision_revision=evidence.decision_revision,
        policy_version=policy.version,
        tag=node in shown.tags.tolist(),
        headline=node == shown.headline,
        steps=(),
    )
    return _with_steps(made, node, taxonomy, changed=node in policy.lost or withheld > 0)


def _own(labels: frozenset[int], stored: Mapping[int, int], taxonomy: Taxonomy) -> dict[int, int]:
    """By label: its stored mass, without that of labels below it that are counted themselves."""
    nodes = {int(taxonomy.label_nodes[label]): label for label in labels}
    own: dict[int, int] = {}
    for node in sorted(nodes.keys() & stored.keys(), reverse=True):  # children come after their parents
        below = sum(mass for other, mass in own.items() if taxonomy.is_under(other, node))
        own[node] = max(0, stored[node] - below)
    return {nodes[node]: mass for node, mass in own.items() if mass}


def _named(own: Mapping[int, int], taxonomy: Taxonomy) -> tuple[Part, ...]:
    synsets = ((taxonomy.synsets[int(taxonomy.label_nodes[label])], mass) for label, mass in own.items())
    parts = (Part(wnid=synset.wnid, name=synset.name, mass=mass) for synset, mass in synsets)
    return tuple(sorted(parts, key=lambda part: (-part.mass, part.wnid)))


# ---- in sentences


def _with_steps(made: Explanation, node: int, taxonomy: Taxonomy, *, changed: bool) -> Explanation:
    steps = [_sum(made), _decision(made, node, taxonomy)]
    if made.policy_version:
        what = "changes this number or the labels named here" if changed else "changes nothing here"
        steps.append(f"Policy version {made.policy_version} {what}.")
    return replace(made, steps=tuple(steps))


def _sum(made: Explanation) -> str:
    if not made.mass:
        return f"{made.name} holds less than {KEPT} of the photo, so no number is stored for it."
    terms = [f"{part.name} {share(part.mass)}" for part in made.parts]
    if made.withheld:
        terms.append(f"labels that the policy shows only as something broader {share(made.withheld)}")
    if made.rest:
        terms.append(f"other labels, each under {KEPT}, {share(made.rest)}")
    return f"{made.name} {share(made.mass)} = {' + '.join(terms)}."


def _decision(made: Explanation, node: int, taxonomy: Taxonomy) -> str:
    by = f"decision {made.decision_revision} ({made.rule}, threshold {share(made.threshold)})"
    stands_for = int(taxonomy.shown_as[node])
    if made.headline:
        return f"It is the headline, by {by}."
    if made.tag:
        why = "its mass reaches the threshold" if made.mass >= made.threshold else "it lies above the headline"
        return f"It is a tag, by {by}: {why}."
    if taxonomy.leaf_count[node] >= BROAD * taxonomy.classes:
        return (
            f"It is never a tag: it holds {taxonomy.leaf_count[node]} of {taxonomy.classes} labels and says too little."
        )
    if stands_for != node:
        return (
            f"It is no tag of its own: {titled(stands_for, taxonomy)} stands for all categories with the same labels."
        )
    return f"It is no tag, by {by}: its mass is {'below' if made.mass < made.threshold else 'not enough for'} that."


def share(mass: int) -> str:
    """Ten-thousandths of a photo as people read them, all digits: 6021 is "0.6021"."""
    return f"{mass // 10_000}.{mass % 10_000:04d}"
