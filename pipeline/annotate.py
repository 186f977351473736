"""From node masses to an `Annotation`: the only place that decides what a photo is said to show. Pure."""

import numpy as np
from numpy.typing import NDArray

from pipeline.records import Annotation
from taxonomy.decide import Decision, decide
from taxonomy.graph import Taxonomy


def annotate(
    masses: NDArray[np.int16], taxonomy: Taxonomy, decision: Decision, nodes: NDArray[np.int16]
) -> list[Annotation]:
    """Decide a batch.

    `masses` has shape (photos, columns), as `taxonomy.rollup` gives them; `nodes` maps columns to the ledger's ids.
    """
    return [
        Annotation(
            nodes=tuple(nodes[photo.columns].tolist()),
            masses=tuple(photo.masses.tolist()),
            tags=tuple(nodes[photo.tags].tolist()),
            headline=None if photo.headline is None else int(nodes[photo.headline]),
        )
        for photo in decide(masses, taxonomy, decision)
    ]
