"""What answers about photos rest on, and how they name categories; shared by photos, verdicts and review."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from sqlalchemy import Connection

from api.errors import Problem, not_found
from api.services import active_model, taxonomy_of
from pipeline.store.policies import active_policy
from pipeline.store.queries import ActiveModel
from pipeline.store.verdicts import StoredVerdict
from pipeline.tags import Listed, Source, TagKind
from pipeline.verdicts import Kind, Standing, Word, coarse, shown
from taxonomy.errors import UnknownSynset
from taxonomy.graph import Taxonomy
from taxonomy.lookup import titled
from taxonomy.policy import Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
    """The active model, its taxonomy, and the policy."""

    model: ActiveModel
    taxonomy: Taxonomy
    policy: Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Tag:
    """A category in a photo's list."""

    wnid: str
    name: str
    mass: int | None  # ten-thousandths of a photo; None: not stored
    depth: int  # in the display tree; the root has 0
    parent_wnid: str | None  # in the display tree; None: the root
    kind: TagKind
    headline: bool
    verdict: Standing | None  # of what people said, be it of another category
    source: Source


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What somebody said of a category of a photo."""

    wnid: str
    name: str
    verdict: Kind
    headline_wnid: str | None  # the headline that was shown then; None: none, or it is hidden by now
    given_by: str
    given_at: datetime


def ground(connection: Connection) -> Ground:
    """What answers rest on now; ConfigurationError before a model is registered."""
    model = active_model(connection)
    taxonomy = taxonomy_of(model)
    return Ground(model=model, taxonomy=taxonomy, policy=active_policy(connection, taxonomy))


def node_of(wnid: str, on: Ground) -> int:
    """The node of a synset id in a path; the problem of a thing that is not there where there is none."""
    try:
        return on.taxonomy.node(wnid)
    except UnknownSynset:
        raise not_found(f"There is no category {wnid}; /v1/categories?name= looks one up by name.") from None


def nodes_of(parameter: str, wnids: Sequence[str], on: Ground) -> frozenset[int]:
    """The nodes of a query parameter's synset ids; a problem that names the parameter where there is none."""
    try:
        return frozenset(on.taxonomy.node(wnid) for wnid in wnids)
    except UnknownSynset as unknown:
        error = {"pointer": f"query.{parameter}", "code": "unknown_category", "detail": str(unknown)}
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid_parameter", f"{parameter}: {unknown}", [error]) from unknown


def refuse_hidden(node: int, on: Ground) -> None:
    """A problem that names what is shown instead, if the policy hides the node."""
    if node in on.policy.hidden:
        hidden, instead = titled(node, on.taxonomy), titled(on.policy.show(node), on.taxonomy)
        raise Problem(
            HTTPStatus.CONFLICT, "category_hidden", f"The policy shows {hidden} only as {instead}; name that one."
        )


def tag_of(entry: Listed, on: Ground) -> Tag:
    """An entry of a list, named."""
    synset, parent = on.taxonomy.synsets[entry.node], int(on.taxonomy.display_parent[entry.node])
    return Tag(
        wnid=synset.wnid,
        name=synset.name,
        mass=entry.mass,
        depth=int(on.taxonomy.depth[entry.node]),
        parent_wnid=None if parent < 0 else on.taxonomy.synsets[parent].wnid,
        kind=entry.kind,
        headline=entry.headline,
        verdict=entry.standing,
        source=entry.source,
    )


def named_verdicts(spoken: Sequence[StoredVerdict], on: Ground) -> tuple[Verdict, ...]:
    """What was said, oldest first, as the policy shows it."""
    holds = set(shown((each.word for each in spoken), on.policy, on.taxonomy))
    newest: dict[Word | None, StoredVerdict] = {}
    for each in spoken:
        word = coarse(each.word, on.policy)
        newest.pop(word, None)  # so that it comes last
        newest[word] = each
    return tuple(
        Verdict(
            wnid=on.taxonomy.synsets[word.node].wnid,
            name=on.taxonomy.synsets[word.node].name,
            verdict=word.kind,
            headline_wnid=None if word.headline is None else on.taxonomy.synsets[word.headline].wnid,
            given_by=each.given_by,
            given_at=each.given_at,
        )
        for word, each in newest.items()
        if word is not None and word in holds
    )
