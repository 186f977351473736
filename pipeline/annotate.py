"""From what a batch of photos was decided to show to the `Annotation`s that are stored, and back. Pure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Annotation, Code
from taxonomy.ballot import ABSTAINED
from taxonomy.decide import Decided, Decision, Kept, decide_kept
from taxonomy.graph import Taxonomy


def annotate(decided: Decided, nodes: NDArray[np.int16]) -> list[Annotation]:
    """One annotation per photo, in order; `nodes` maps the taxonomy's columns to the ledger's ids.

    Ids are looked up for the whole batch at once: most of the time per photo would go into small arrays.
    """
    kept, ends = decided.kept, decided.kept.ends.tolist()
    kept_ids, masses = nodes[kept.columns].tolist(), kept.masses.tolist()
    tag_ids, tag_ends = nodes[decided.tags].tolist(), decided.tag_ends.tolist()
    headlines = nodes[decided.headline].tolist()  # ABSTAINED finds the last id here, which is not used
    return [
        Annotation(
            nodes=tuple(kept_ids[ends[photo] : ends[photo + 1]]),
            masses=tuple(masses[ends[photo] : ends[photo + 1]]),
            tags=tuple(tag_ids[tag_ends[photo] : tag_ends[photo + 1]]),
            headline=None if decided.headline[photo] == ABSTAINED else headlines[photo],
        )
        for photo in range(len(decided))
    ]


def outcome_of(note: Annotation) -> Code:
    """What a photo is that the model has seen."""
    return Code.ABSTAINED if note.headline is None else Code.TAGGED


def annotate_again(
    notes: Sequence[Annotation], nodes: NDArray[np.int16], taxonomy: Taxonomy, decision: Decision
) -> list[Annotation]:
    """The same photos under another decision, without looking at them: they are decided from what is stored.

    Exact where the first decision kept all that this one keeps: where its `keep_mass` was no larger.
    """
    return annotate(decide_kept(_kept(notes, nodes, decision.keep_mass), taxonomy, decision), nodes)


def _kept(notes: Sequence[Annotation], nodes: NDArray[np.int16], least: int) -> Kept:
    masses = np.array([mass for note in notes for mass in note.masses], dtype=np.int16)
    ids = np.array([node for note in notes for node in note.nodes], dtype=np.int16)
    enough = masses >= least
    rows = np.repeat(np.arange(len(notes)), [len(note.nodes) for note in notes])[enough]
    order = np.argsort(nodes)
    columns = order[np.searchsorted(nodes, ids[enough], sorter=order)].astype(np.int32)
    ends = np.concatenate(([0], np.cumsum(np.bincount(rows, minlength=len(notes)))))
    return Kept(columns=columns, masses=masses[enough], ends=ends)
