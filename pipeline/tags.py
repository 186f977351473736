"""A photo's tags as they are listed for people: what a model decided and what people said, filtered as they wish. Pure.

The laws
  1. Candidates are the tags that the model's decision shows, and the categories that somebody confirmed, with
     everything above them that can be a tag. Photo and words come as the policy shows them, so nothing hidden is one.
  2. Wishes leave out candidates first. Of those left, the narrowest are *tags*; what lies above one is an *ancestor*.
     What somebody rejected stays listed, as rejected, and keeps nothing above it from being the narrowest.
  3. A wish for a probability is about what the model says; what a person confirmed needs none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.verdicts import Said, Standing, Word, above, all_said
from taxonomy.ballot import ballot
from taxonomy.decide import PhotoDecision
from taxonomy.graph import Taxonomy

TagKind = Literal["tag", "ancestor", "leaf"]
Source = Literal["model", "person"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """Which tags are asked for. Nodes as in `taxonomy.graph`."""

    least_mass: int = 0  # ten-thousandths of a photo
    under: frozenset[int] = frozenset()  # at or under any of these; empty: anywhere
    not_under: frozenset[int] = frozenset()  # at or under none of these
    ancestors: bool = False  # what lies above tags too
    leaves: bool = False  # labels with a stored mass too, though they are no tags
    most: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """One category in a photo's list."""

    node: int
    mass: int | None  # ten-thousandths of a photo, as the policy shows it; None: under 2 %, and so not stored
    kind: TagKind
    headline: bool
    standing: Standing | None
    source: Source


def listed(
    photo: PhotoDecision, words: Sequence[Word], wishes: Wishes, taxonomy: Taxonomy, vague_share: float
) -> tuple[Listed, ...]:
    """The list of a photo: tags, then ancestors, narrowest first; then leaves, surest first.

    Args:
        photo: as the policy shows it (`coarsen_photo`).
        words: as the policy shows them (`pipeline.verdicts.shown`).
        wishes: what is asked for.
        taxonomy: whose columns and nodes they are.
        vague_share: of the decision; a category with this share of the labels is no tag because of what lies below.
    """
    said, shown = all_said(words, taxonomy), set(photo.tags.tolist())
    masses = dict(zip(photo.columns.tolist(), photo.masses.tolist(), strict=True))
    confirmed = _confirmed(words, said, taxonomy, vague_share)
    wanted = [node for node in shown | confirmed if _wished(node, masses.get(node), said, wishes, taxonomy)]
    narrowest = _narrowest(wanted, said, taxonomy)
    leaves = (
        []
        if not wishes.leaves
        else [n for n in taxonomy.label_nodes.tolist() if n in masses.keys() - shown - confirmed]
    )

    def entry(node: int, kind: TagKind) -> Listed:
        return Listed(
            node=node,
            mass=masses.get(node),
            kind=kind,
            headline=node == photo.headline,
            standing=said.of(node),
            source="person" if kind != "leaf" and node not in shown else "model",
        )

    def narrow_first(node: int) -> tuple[int, int, int]:
        return int(taxonomy.leaf_count[node]), -masses.get(node, 0), int(taxonomy.wnid_rank[node])

    found = [entry(node, "tag") for node in sorted(narrowest, key=narrow_first)]
    if wishes.ancestors:
        found += [entry(node, "ancestor") for node in sorted(set(wanted) - narrowest, key=narrow_first)]
    sure = [node for node in leaves if _wished(node, masses[node], said, wishes, taxonomy)]
    found += [entry(node, "leaf") for node in sorted(sure, key=lambda n: (-masses[n], int(taxonomy.wnid_rank[n])))]
    return tuple(found[: wishes.most])


def _confirmed(words: Sequence[Word], said: Said, taxonomy: Taxonomy, vague_share: float) -> frozenset[int]:
    """What people's words make tags: what they name, and what can be a tag above it."""
    named = {int(taxonomy.shown_as[word.node]) for word in words if word.kind != "reject"}
    showable = ballot(taxonomy, "expected", vague_share).showable
    return frozenset(n for n in said.yes if n in named or showable[n])


def _wished(node: int, mass: int | None, said: Said, wishes: Wishes, taxonomy: Taxonomy) -> bool:
    lineage = above(node, taxonomy)
    if wishes.under and lineage.isdisjoint(wishes.under):
        return False
    return lineage.isdisjoint(wishes.not_under) and ((mass or 0) >= wishes.least_mass or node in said.yes)


def _narrowest(nodes: Sequence[int], said: Said, taxonomy: Taxonomy) -> frozenset[int]:
    """Those that nothing of the list lies below; what is rejected counts only for what is rejected itself."""
    over: set[int] = set()
    for node in nodes:
        lineage = above(node, taxonomy) - {node}
        over |= {each for each in lineage if (each in said.no) == (node in said.no)}
    return frozenset(nodes) - over
