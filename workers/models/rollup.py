"""The device twin of `taxonomy.rollup` and of the headline of `taxonomy.decide`: the same integers, by contract test.

What grows with photos times columns runs where the model ran; what comes back are the columns that are stored, about 34
per photo, and the winner. Tags follow from those on the host. Sums are integers from the first addition on
(`taxonomy.rollup`, law 3), so neither the order of a device's additions nor its reduced-precision modes matter.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taxonomy.ballot import NO_HEADLINE, RANK_BITS, Rule, ballot
from taxonomy.decide import Decided, Decision, Kept, show
from taxonomy.graph import Taxonomy
from taxonomy.rollup import GRAIN, UNITS, UNITS_PER_MASS, Runs, check_rows, check_shape


@dataclass(frozen=True, kw_only=True, slots=True)
class _Votes:
    """`taxonomy.ballot.Ballot` for the columns that compete, on the device."""

    competing: Tensor  # columns
    utility: Tensor  # parallel to `competing`, as the rest
    information: Tensor
    rank: Tensor


class DeviceRollup:
    """The roll-up and the decision over one taxonomy, on one device. For one thread."""

    def __init__(self, taxonomy: Taxonomy, device: torch.device) -> None:
        self._taxonomy = taxonomy
        self._device = device
        runs = Runs.of(taxonomy)
        self._order, self._first, self._last = (self._tensor(a) for a in (runs.order, runs.first, runs.last))
        self._more_column = self._tensor(runs.more_column)
        self._more_first, self._more_last = self._tensor(runs.more_first), self._tensor(runs.more_last)
        self._votes: dict[tuple[Rule, float], _Votes] = {}

    @torch.inference_mode()
    def masses(self, probabilities: Tensor) -> Tensor:
        """Masses [B, C], int16, on the device, from leaf probabilities [B, L]; equal to `Rollup.masses`.

        Raises:
            BadScores: not [B, L], or a row is not finite, has a negative entry, or does not sum to 1 within 0.001.
        """
        check_shape(tuple(probabilities.shape), len(self._order))
        units = self._units(probabilities.to(self._device, torch.float64))
        running = torch.zeros((len(units), units.shape[1] + 1), dtype=torch.int32, device=self._device)
        running[:, 1:] = torch.cumsum(units[:, self._order], dim=1, dtype=torch.int32)
        sums = running[:, self._last] - running[:, self._first]
        sums.index_add_(1, self._more_column, running[:, self._more_last] - running[:, self._more_first])
        return (sums // UNITS_PER_MASS).to(torch.int16)

    @torch.inference_mode()
    def decide(self, probabilities: Tensor, decision: Decision) -> Decided:
        """What each photo of a batch shows, from leaf probabilities [B, L]; equal to `taxonomy.decide.decide`.

        Raises:
            BadScores: see `masses`.
        """
        masses = self.masses(probabilities)
        kept, winner = self._keep(masses, decision.keep_mass), self._winners(masses, decision)
        return show(kept, winner, self._taxonomy, decision)

    def _units(self, scores: Tensor) -> Tensor:
        totals = torch.floor(scores * GRAIN).sum(dim=1) / GRAIN
        if len(scores):
            check_rows(totals.cpu().numpy(), scores.amin(dim=1).cpu().numpy())
        units = (scores * (UNITS / totals)[:, None]).to(torch.int32)
        missing = UNITS - units.sum(dim=1, dtype=torch.int32)
        largest = scores.argmax(dim=1, keepdim=True)  # the first of equals, as in numpy
        return units.scatter_add_(1, largest, missing[:, None])

    def _keep(self, masses: Tensor, least: int) -> Kept:
        rows, columns = torch.nonzero(masses >= least, as_tuple=True)
        sizes = torch.bincount(rows, minlength=len(masses)).cpu().numpy()
        return Kept(
            columns=columns.to(torch.int32).cpu().numpy(),
            masses=masses[rows, columns].cpu().numpy(),
            ends=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        )

    def _winners(self, masses: Tensor, decision: Decision) -> NDArray[np.int32]:
        """`taxonomy.decide.winners`, over all columns at once."""
        votes = self._votes_of(decision)
        held = masses[:, votes.competing].to(torch.int64)
        eligible = held >= decision.keep_mass
        if decision.rule == "expected":
            worth = held * (votes.utility + decision.lam)
            eligible &= decision.lam < NO_HEADLINE
        else:
            worth = votes.information.expand_as(held)
            eligible &= held >= decision.threshold
        worth = torch.where(eligible, worth, -1)
        tied = eligible & (worth == worth.amax(dim=1, keepdim=True))
        best = torch.where(tied, held << RANK_BITS | votes.rank, -1).amax(dim=1)
        return ballot(self._taxonomy, decision.rule, decision.vague_share).elected(best.cpu().numpy())

    def _votes_of(self, decision: Decision) -> _Votes:
        """Uploaded once, for the constants change rarely."""
        key = decision.rule, decision.vague_share
        if key not in self._votes:
            votes = ballot(self._taxonomy, *key)
            competing = np.flatnonzero(votes.competes)
            self._votes[key] = _Votes(
                competing=self._tensor(competing),
                utility=self._tensor(votes.utility[competing]),
                information=self._tensor(votes.information[competing]),
                rank=self._tensor(votes.rank[competing]),
            )
        return self._votes[key]

    def _tensor(self, array: NDArray[np.integer]) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(self._device)
