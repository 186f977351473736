"""What is shown of models and of what another one would change. Pure of HTTP."""

from dataclasses import dataclass

from sqlalchemy import Connection

from pipeline.net_change import NetChange, net_changes
from pipeline.profile import CategoryTotal
from pipeline.store.model_diff import taxonomy_of
from pipeline.store.model_reports import KeptReport, kept
from pipeline.store.policies import active_policy, coarsen_totals, population_totals
from pipeline.store.promotions import KnownModel
from taxonomy.graph import Taxonomy
from taxonomy.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What would change if the head were active instead of the base."""

    same_taxonomy: bool
    policy_version: int  # 0: no policy
    categories: tuple[NetChange, ...]
    report: KeptReport | None  # photo by photo, as it was made before, under this policy
    missing: str | None  # why there is no report, and how one is made


def difference(connection: Connection, base: KnownModel, head: KnownModel) -> Difference:
    """Compare two models by their exact totals, and find what was compared photo by photo.

    Raises:
        ConfigurationError: one was dropped, or its taxonomy is not here as it was registered.
    """
    sides = [_side(connection, model) for model in (base, head)]
    (before, base_taxonomy, policy), (after, head_taxonomy, its_policy) = sides
    report = kept(connection, base.model_id, head.model_id)
    hidden = _hidden(policy, base_taxonomy) | _hidden(its_policy, head_taxonomy)
    changes = net_changes(before, base_taxonomy, after, head_taxonomy)
    current = report if report is not None and report.policy_version == policy.version else None
    return Difference(
        same_taxonomy=base_taxonomy.sha256 == head_taxonomy.sha256,
        policy_version=policy.version,
        categories=tuple(change for change in changes if change.wnid not in hidden),
        report=current,
        missing=_missing(base, head, report) if current is None else None,
    )


def _side(connection: Connection, model: KnownModel) -> tuple[tuple[CategoryTotal, ...], Taxonomy, Policy]:
    taxonomy = taxonomy_of(model)
    policy = active_policy(connection, taxonomy)
    return coarsen_totals(population_totals(connection, model.model_id), policy), taxonomy, policy


def _hidden(policy: Policy, taxonomy: Taxonomy) -> set[str]:
    return {taxonomy.synsets[column].wnid for column in policy.hidden if column < taxonomy.nodes}


def _missing(base: KnownModel, head: KnownModel, report: KeptReport | None) -> str:
    command = f"`pictograph models diff {base.label} {head.label}`"
    if report is None:
        return f"These two were not compared photo by photo yet; {command} does that."
    return f"These two were compared photo by photo under another policy; {command} does it anew."
