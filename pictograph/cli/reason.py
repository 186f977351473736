"""Reasons and limits: comparing two users, explaining a tag, and the policy of what is never said."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from operator import attrgetter
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import Connection

from pictograph.cli.connect import reading, writing
from pictograph.cli.console import STYLE, Json, emit, out, say
from pipeline import treemap
from pipeline.compare import PRIOR, ComparedCategory, Comparison, Level, apart, compare
from pipeline.errors import ConfigurationError
from pipeline.explain import Explanation, explain, share
from pipeline.profile import CategoryTotal
from pipeline.store import policies, queries
from pipeline.store.evidence import photo_evidence
from pipeline.store.policies import PolicyVersion, coarsen_totals
from pipeline.store.queries import ActiveModel
from taxonomy.graph import Taxonomy, load
from taxonomy.lookup import one_node, titled
from taxonomy.policy import Policy, Rule, node_of, parse_rule, target_of, work_out

group = typer.Typer(**STYLE)
policy_group = typer.Typer(**STYLE, help="What is shown only as something broader.")
group.add_typer(policy_group, name="policy")

Version = Annotated[int | None, typer.Argument(metavar="[VERSION]", min=1, help="The newest, unless given.")]
VersionOrNone = Annotated[
    int | None, typer.Argument(metavar="[VERSION]", min=0, help="The newest, unless given; 0: no policy.")
]
Score = Callable[[ComparedCategory], float]
LEAST_TOLD = 0.00005  # what would be printed as 0.0000 says nothing
FEW_PHOTOS = 4 * PRIOR  # below, at least a fifth of what is compared is everybody's
RULES = "'coarsen SUBTREE to ANCESTOR' or 'hide SUBTREE'; each a word or a synset id."


@contextmanager
def _ledger() -> Iterator[tuple[Connection, ActiveModel, Taxonomy]]:
    """A transaction on the ledger, for looking only, with the active model and its taxonomy."""
    with reading() as connection:
        yield connection, *_active_model(connection)


@contextmanager
def _policies() -> Iterator[tuple[Connection, Taxonomy]]:
    """A transaction that nobody else changes a policy in the midst of, with the active model's taxonomy."""
    with writing() as connection:
        policies.lock(connection)
        yield connection, _active_model(connection)[1]


def _active_model(connection: Connection) -> tuple[ActiveModel, Taxonomy]:
    model = queries.active_model(connection)
    if model is None:
        raise ConfigurationError("No model is registered yet; `pictograph migrate` registers one.")
    return model, load(model.taxonomy)


# ---- compare

#: By its name in JSON: a list's title, what is in it, and the number that orders it.
LISTS: dict[str, tuple[str, Callable[[Comparison, int], tuple[ComparedCategory, ...]], Score]] = {
    "both": ("Both {a} and {b}", Comparison.both, attrgetter("shared")),
    "only_a": ("Only {a}", Comparison.only_a, attrgetter("only_a")),
    "only_b": ("Only {b}", Comparison.only_b, attrgetter("only_b")),
    "dissimilar": ("Furthest apart", Comparison.dissimilar, attrgetter("difference")),
    "extremes_a": ("{a}, unlike everybody", Comparison.extremes_a, attrgetter("extreme_a")),
    "extremes_b": ("{b}, unlike everybody", Comparison.extremes_b, attrgetter("extreme_b")),
}


@group.command("compare", epilog="Example: `pictograph compare ann ben --json`")
def show_comparison(
    a: Annotated[str, typer.Argument(metavar="A", help="A user's name.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another's.")],
    *,
    level: Annotated[Level, typer.Option(help="leaf: only what is of the very same label is shared.")] = "node",
    most: Annotated[int, typer.Option("-n", min=1, max=100, help="How many categories per list.")] = 5,
    as_json: Json = False,
) -> None:
    """What both photograph, what only one of them does, and how similar they are."""
    with _ledger() as (connection, model, taxonomy):
        policy = policies.active_policy(connection, taxonomy)
        first, second = (_totals(connection, model, user, policy) for user in (a, b))
        everybody = coarsen_totals(policies.population_totals(connection, model.model_id), policy)
    made = compare(first, second, everybody, taxonomy, level)
    lists = {key: apart(of(made, len(made.categories)), taxonomy)[:most] for key, (_, of, _) in LISTS.items()}
    if as_json:
        emit({"a": a, "b": b, **_compared(made, taxonomy), **{k: [asdict(c) for c in v] for k, v in lists.items()}})
        return
    say(f"Similarity of {a} and {b}: {made.similarity:.3f} (1 is equal).{_caution(made)}")
    if made.parts:
        widest = ", ".join(f"{titled(node, taxonomy)} {part:.3f}" for node, part in made.widest())
        say(f"You differ most at: {widest} (of {made.divergence:.3f} bits).")
    for key, found in lists.items():
        _show_list(key, found, a, b)


def _show_list(key: str, found: tuple[ComparedCategory, ...], a: str, b: str) -> None:
    title, _, score = LISTS[key]
    title = title.format(a=a, b=b)
    table = Table(title, a, b, "everybody", "bits" if key != "dissimilar" else "", box=None, padding=(0, 2, 0, 0))
    told = [c for c in found if abs(score(c)) >= LEAST_TOLD]
    for c in told:
        number = f"{100 * score(c):+.1f} %" if key == "dissimilar" else f"{score(c):.4f}"
        table.add_row(c.name, *(f"{100 * s:.1f} %" for s in (c.share_a, c.share_b, c.background)), number)
    out.print(table if told else f"{title}: nothing")


def _totals(connection: Connection, model: ActiveModel, user: str, policy: Policy) -> tuple[CategoryTotal, ...]:
    found = queries.user_profile_totals(connection, model.model_id, user)
    if found is None:
        raise ConfigurationError(f"There is no user {user!r}; `pictograph tag` stores users as it meets their photos.")
    if not found.totals:
        raise ConfigurationError(f"No photo of {user!r} is analysed yet; `pictograph tag` does that.")
    return coarsen_totals(found.totals, policy)


def _compared(made: Comparison, taxonomy: Taxonomy) -> dict[str, Any]:
    return {
        "level": made.level,
        "photos_a": made.photos_a,
        "photos_b": made.photos_b,
        "similarity": made.similarity,
        "divergence": made.divergence,
        "parts": [
            {"wnid": taxonomy.synsets[node].wnid, "name": taxonomy.synsets[node].name, "divergence": part}
            for node, part in made.parts
        ],
    }


def _caution(made: Comparison) -> str:
    """A word on small libraries, whose shares are drawn towards everybody's."""
    few = min(made.photos_a, made.photos_b)
    return f" With only {treemap.photos(few)} on one side it leans towards alike." if few < FEW_PHOTOS else ""


# ---- explain


@group.command("explain", epilog="Example: `pictograph explain 17 dog`")
def show_explanation(
    photo_id: Annotated[int, typer.Argument(metavar="PHOTO_ID", min=1, help="The photo's number.")],
    category: Annotated[str, typer.Argument(metavar="NODE", help="A word, or a synset id such as n02084071.")],
    *,
    as_json: Json = False,
) -> None:
    """Which labels make a category's number in one photo, and why it is a tag or not."""
    with _ledger() as (connection, model, taxonomy):
        node = one_node(category, taxonomy)
        policy = policies.active_policy(connection, taxonomy)
        made = explain(photo_evidence(connection, model.model_id, photo_id), node, taxonomy, policy)
    emit(asdict(made)) if as_json else _show(made)


def _show(made: Explanation) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for part in made.parts:
        table.add_row(share(part.mass), part.name, part.wnid)
    if made.withheld:
        table.add_row(share(made.withheld), "labels shown only as something broader", "")
    if made.rest:
        table.add_row(share(made.rest), "other labels, each under 0.02", "")
    if made.mass:
        table.add_row(share(made.mass), made.name, made.wnid, style="bold")
    if made.mass:
        out.print(table)
    for step in made.steps[0 if not made.mass else 1 :]:
        say(step)


# ---- policy


@policy_group.command("add", epilog="Example: `pictograph policy add 'coarsen gorilla to ape' 'hide revolver'`")
def add(
    rules: Annotated[list[str], typer.Argument(metavar="RULE...", help=RULES)],
    *,
    as_json: Json = False,
) -> None:
    """A new version: the newest one's rules and these. Nothing changes until it is applied."""
    with _policies() as (connection, taxonomy):
        before = policies.newest(connection)
        asked = [parse_rule(rule, taxonomy) for rule in rules]
        work_out(tuple(asked), taxonomy)
        made = policies.add_version(connection, [*(before.rules if before else ()), *asked])
        _tell(made, taxonomy, as_json=as_json)


@policy_group.command("drop", epilog="Example: `pictograph policy drop 'hide revolver'`")
def drop(
    rules: Annotated[list[str], typer.Argument(metavar="RULE...", help=RULES)],
    *,
    as_json: Json = False,
) -> None:
    """A new version: the newest one's rules without these. Nothing changes until it is applied."""
    with _policies() as (connection, taxonomy):
        before = policies.newest(connection)
        present = [] if before is None else [rule for rule in before.rules if not rule.taken_along]
        gone = [parse_rule(rule, taxonomy) for rule in rules]
        for typed, rule in zip(rules, gone, strict=True):
            if rule not in present:
                raise ConfigurationError(f"The newest policy has no rule {typed!r}; `pictograph policy show` lists it.")
        _tell(policies.add_version(connection, [r for r in present if r not in gone]), taxonomy, as_json=as_json)


@policy_group.command("list", epilog="Example: `pictograph policy list`")
def list_versions(*, as_json: Json = False) -> None:
    """All versions, newest first."""
    with _ledger() as (connection, _, taxonomy):
        found = policies.versions(connection)
    if as_json:
        for version in found:
            emit(_facts(version, taxonomy))
        return
    if not found:
        say("There is no policy; `pictograph policy add RULE` makes one.")
        return
    table = Table("version", "rules", "made", "", box=None, padding=(0, 2, 0, 0))
    for version in found:
        asked = sum(not rule.taken_along for rule in version.rules)
        made = f"{version.created_at:%Y-%m-%d %H:%M}"
        table.add_row(str(version.version), str(asked), made, "active" if version.active else "")
    out.print(table)


@policy_group.command("show", epilog="Example: `pictograph policy show 3`")
def show_version(version: Version = None, *, as_json: Json = False) -> None:
    """The rules of a version, and what goes along with them so that no count can be had by subtraction."""
    with _ledger() as (connection, _, taxonomy):
        chosen = _chosen(connection, version)
        more = policies.overdue(connection) if chosen.active else 0
    if as_json:
        emit({**_facts(chosen, taxonomy), "overdue": more})
        return
    _tell(chosen, taxonomy, as_json=False)
    if more:
        say(f"Apply the policy again: {policies.more_along(more)} (`pictograph policy apply {chosen.version}`).")


@policy_group.command("preview", epilog="Example: `pictograph policy preview`")
def preview(version: Version = None, *, as_json: Json = False) -> None:
    """What applying a version would change: photos and users, counted from stored rows; nothing is changed."""
    with _ledger() as (connection, model, taxonomy):
        chosen = _chosen(connection, version)
        rules = policies.closed(connection, chosen.rules, taxonomy)
        found = policies.touched(connection, model, work_out(rules, taxonomy, chosen.version), taxonomy)
    if as_json:
        emit({"version": chosen.version, **asdict(found), "rules": [_rule(rule, taxonomy) for rule in rules]})
        return
    say(f"Policy version {chosen.version} would hide {found.categories} categories:")
    _say_rules(rules, taxonomy)
    say(f"{treemap.photos(found.photos)} of {_users(found.users)} would lose or change a tag;")
    say(f"{treemap.photos(found.photos_in_part)} of {_users(found.users_in_part)} have 2 % of something hidden.")


@policy_group.command("apply", epilog="Example: `pictograph policy apply 3`; `pictograph policy apply 0` ends it")
def apply(version: VersionOrNone = None, *, as_json: Json = False) -> None:
    """Make a version the one that everybody sees; 0: no policy. No photo is read or changed."""
    with _policies() as (connection, taxonomy):
        number = _chosen(connection, version).version if version is None else version
        policy = policies.apply(connection, number, taxonomy)
    if as_json:
        emit({"version": number, "rules": [_rule(rule, taxonomy) for rule in policy.rules]})
        return
    say(f"Policy version {number} is active." if number else "No policy is active: everything is shown as it is.")
    _say_rules(policy.rules, taxonomy)


def _chosen(connection: Connection, version: int | None) -> PolicyVersion:
    if version is not None:
        return policies.find(connection, version)
    found = policies.newest(connection)
    if found is None:
        raise ConfigurationError("There is no policy yet; `pictograph policy add RULE` makes one.")
    return found


def _tell(version: PolicyVersion, taxonomy: Taxonomy, *, as_json: bool) -> None:
    if as_json:
        emit(_facts(version, taxonomy))
        return
    say(f"Policy version {version.version}{', active' if version.active else ''}:")
    _say_rules(version.rules, taxonomy)


def _say_rules(rules: tuple[Rule, ...], taxonomy: Taxonomy) -> None:
    for rule in rules:
        subtree, target, why = _rule(rule, taxonomy).values()
        say(f"  {subtree} is shown as {target}{', so that nothing can be had by subtraction' if why else ''}")
    if not rules:
        say("  no rules")


def _rule(rule: Rule, taxonomy: Taxonomy) -> dict[str, Any]:
    if node_of(rule.wnid, taxonomy) is None:  # of another model's taxonomy
        return {"subtree": rule.wnid, "target": rule.target or "something broader", "taken_along": rule.taken_along}
    return {
        "subtree": titled(taxonomy.node(rule.wnid), taxonomy),
        "target": titled(target_of(rule, taxonomy), taxonomy),
        "taken_along": rule.taken_along,
    }


def _facts(version: PolicyVersion, taxonomy: Taxonomy) -> dict[str, Any]:
    times = {"created_at": version.created_at, "applied_at": version.applied_at}
    rules = [_rule(rule, taxonomy) for rule in version.rules]
    return {"version": version.version, "active": version.active, **times, "rules": rules}


def _users(count: int) -> str:
    return f"{count:,} user{'s' if count != 1 else ''}"
