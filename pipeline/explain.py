"""Why a photo has, or has not, a tag: the labels that make a category's mass, and every step from there to the tag.

Law of the file, over integers and so exactly: the parts add up to the number shown,

    mass = sum of `parts` + `withheld` + `rest`.

`parts` are the labels under the category that hold at least 2 % of the photo; `withheld` is what lies in labels that
the policy shows only as a broader category (they are not named); `rest` is all other labels, each under 2 %, and what
rounding down leaves over. Only what is stored is read: nothing is classified again. What is said of the headline, of
the surest choice of a photo without one, and of the two categories that a photo is torn between is worked out by the
rule that decided it, and names nothing that the policy hides.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from pipeline.errors import ConfigurationError
from pipeline.profile import BROAD
from pipeline.store.evidence import Evidence
from taxonomy.ballot import ABSTAINED, UNIT, ballot
from taxonomy.decide import Decision, Kept, PhotoDecision, ambiguous, winners
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
    lam: int  # ten-thousandths; what the rule "expected" pays for being right at all
    threshold: int  # a tag's least mass
    decision_revision: int
    policy_version: int  # 0: no policy
    tag: bool  # shown as a tag of the photo
    headline: bool
    winner: str | None  # what the rule chose, be it too vague to be shown; None: nothing
    torn: tuple[str, str] | None  # two categories far apart that both hold much, the better first
    steps: tuple[str, ...]  # the same in sentences, in order


@dataclass(frozen=True, kw_only=True, slots=True)
class Ruling:
    """How the photo as a whole was decided. Nodes and masses as the policy shows them."""

    decision: Decision
    stored: int | None  # the headline before the policy; None: abstained
    shown: PhotoDecision
    winner: int | None
    torn: tuple[int, int] | None

    def mass(self, node: int) -> int:
        """What the photo shows of a node; 0 if that is not stored."""
        return int(self.shown.masses[self.shown.columns == node].sum())


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
    ruling = _ruling(evidence, shown, taxonomy, policy)
    mass = ruling.mass(node)
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
        rule=evidence.decision.rule,
        lam=evidence.decision.lam,
        threshold=evidence.decision.threshold,
        decision_revision=evidence.decision.revision,
        policy_version=policy.version,
        tag=node in shown.tags.tolist(),
        headline=node == shown.headline,
        winner=None if ruling.winner is None else taxonomy.synsets[ruling.winner].name,
        torn=None if ruling.torn is None else (_name(ruling.torn[0], taxonomy), _name(ruling.torn[1], taxonomy)),
        steps=(),
    )
    return _with_steps(made, node, ruling, taxonomy, changed=node in policy.lost or withheld > 0)


def _name(node: int, taxonomy: Taxonomy) -> str:
    return taxonomy.synsets[node].name


def _ruling(evidence: Evidence, shown: PhotoDecision, taxonomy: Taxonomy, policy: Policy) -> Ruling:
    decision = evidence.decision
    winner = int(winners(_alone(evidence.found), taxonomy, decision)[0])
    return Ruling(
        decision=decision,
        stored=evidence.found.headline,
        shown=shown,
        winner=None if winner == ABSTAINED else policy.show(winner),
        torn=ambiguous(_alone(shown), taxonomy, decision)[0],
    )


def _alone(photo: PhotoDecision) -> Kept:
    """One photo as a batch."""
    return Kept(columns=photo.columns, masses=photo.masses, ends=np.array([0, len(photo.columns)], dtype=np.int64))


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


def _with_steps(made: Explanation, node: int, ruling: Ruling, taxonomy: Taxonomy, *, changed: bool) -> Explanation:
    steps = [_sum(made), _decision(made, node, ruling, taxonomy), *_worths(made, node, ruling, taxonomy)]
    if ruling.stored is None and ruling.torn is not None:
        first, second = (f"{_name(each, taxonomy)} ({share(ruling.mass(each))})" for each in ruling.torn)
        steps.append(f"The photo is undecided between {first} and {second}, which have nothing narrow in common.")
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


def _decision(made: Explanation, node: int, ruling: Ruling, taxonomy: Taxonomy) -> str:
    lam = f", lambda {share(made.lam)}" if made.rule == "expected" else ""
    by = f"decision {made.decision_revision} ({made.rule}{lam}, threshold {share(made.threshold)})"
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
    return f"It is no tag, by {by}: {_why_not(made, ruling)}."


def _why_not(made: Explanation, ruling: Ruling) -> str:
    if ruling.stored is None:
        chosen = (
            f"the surest choice was {made.winner}, which says too little" if made.winner else "nothing is sure enough"
        )
        return f"the photo has no tags, for {chosen}"
    return "its mass is below that" if made.mass < made.threshold else "the policy does not show it as one"


def _worths(made: Explanation, node: int, ruling: Ruling, taxonomy: Taxonomy) -> list[str]:
    """Under the rule "expected": what the winner is worth, and what this category is; [] where a policy is between."""
    winner, votes = ruling.winner, ballot(taxonomy, ruling.decision.rule, ruling.decision.vague_share)
    changed = ruling.stored != ruling.shown.headline
    if made.rule != "expected" or winner is None or changed or not (made.mass and votes.competes[node]):
        return []

    def worth(of: int) -> str:
        mass, utility = ruling.mass(of), int(votes.utility[of])
        product = mass * (utility + made.lam) // UNIT
        return f"{_name(of, taxonomy)} {share(mass)} x ({share(utility)} + {share(made.lam)}) = {share(product)}"

    against = "" if winner == node else f", against {worth(node)}"
    what = "The headline is" if winner == ruling.stored else "Not shown, for it says too little, is"
    return [f"{what} what has the largest worth, mass x (utility + lambda): {worth(winner)}{against}."]


def share(mass: int) -> str:
    """Ten-thousandths of a photo as people read them, all digits: 6021 is "0.6021"."""
    return f"{mass // 10_000}.{mass % 10_000:04d}"
