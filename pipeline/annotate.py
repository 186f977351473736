"""From what a batch of photos was decided to show to the `Annotation`s that are stored. Pure."""

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Annotation
from taxonomy.ballot import ABSTAINED
from taxonomy.decide import Decided


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
