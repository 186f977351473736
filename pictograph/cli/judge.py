"""Judging: how good the tags are on labelled photos, and the constants that make them keep a promise."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import typer
from rich.table import Table

from pictograph.cli.connect import model_at_hand
from pictograph.cli.console import STYLE, Json, emit, note, out, say
from pictograph.cli.constants import constants_of, opened_ledger, say_stored
from pictograph.cli.constants import percent as _pc
from pictograph.cli.judge_verdicts import calibrate_from_verdicts
from pictograph.evaluation import answer
from pictograph.evaluation.constants import Chosen, Goal, choose_constants
from pictograph.evaluation.degrade import Degradation
from pictograph.evaluation.measure import Plan, RuleResult, SetResult
from pictograph.evaluation.report import MEASURES, RULES_NOTE, html
from pictograph.evaluation.study import Request, Study, bench, study
from pipeline.errors import ConfigurationError
from pipeline.settings import Settings
from pipeline.store.catalogue import store_decision, stored_decision
from taxonomy.calibrate import Among, Guarantee
from taxonomy.decide import Decision
from taxonomy.graph import Taxonomy
from taxonomy.metrics import HeadlineMetrics
from workers.ledger import register
from workers.models import registry
from workers.models.spec import ModelSpec

group = typer.Typer(**STYLE)

MOST_CATEGORIES = 8  # in the table for people
MOST_REVISION = 2**31 - 1  # that the ledger can hold

Labelled = Annotated[
    Path,
    typer.Argument(
        metavar="LABELLED",
        help="A folder: with a labels.json of files and wnids, or with names that start with wnids.",
    ),
]
Model = Annotated[str | None, typer.Option(help="The model; unless given, the configured one.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many photos, evenly spread over the folder.")]
Target = Annotated[float, typer.Option(help="Share that is to be without a wrong tag; above 0 and below 1.")]


# ---- evaluate


@group.command(epilog="Example: `pictograph evaluate photos --degrade user:0.6 --report report.html`")
def evaluate(
    labelled: Labelled,
    *,
    model: Model = None,
    degrade: Annotated[
        list[str] | None, typer.Option(help="Degraded copies too: user:LEVEL, crop:LEVEL or blur:LEVEL; repeatable.")
    ] = None,
    copies: Annotated[int, typer.Option(min=1, max=100, help="Degraded copies of each photo.")] = 1,
    limit: Limit = None,
    splits: Annotated[int, typer.Option(min=1, max=1000, help="Random halves to calibrate and measure on.")] = 20,
    target: Target = 0.95,
    decision: Annotated[
        str | None,
        typer.Option(
            metavar="REVISION|newest",
            help="A decision that the ledger holds for the model; unless given, the one that ships with it.",
        ),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write a page to look at, with the worst mistakes.")] = None,
    as_json: Json = False,
) -> None:
    """How right, and how telling, the tags of labelled photos are; beside the rules of the literature.

    Memory grows by 4 KB a photo for a thousand labels. No result is stored.
    """
    revision, settings = _revision(decision), Settings.read()
    request = Request(
        folder=labelled,
        spec=model_at_hand(model),
        degradations=tuple(Degradation.parse(text) for text in dict.fromkeys(degrade or ())),
        limit=limit,
        copies=copies,
        runtime=settings.runtime,
        models=registry.folder_of(settings),
    )
    if not 0 < target < 1:
        raise ConfigurationError(f"A target of {target} cannot be reached for; choose one between 0 and 1.")
    if report is not None and not report.absolute().parent.is_dir():
        raise ConfigurationError(f"There is no folder {report.absolute().parent} for the report; make it first.")
    if revision is not None:
        request = replace(request, decision=_stored(request.spec, revision))
    made = study(request, Plan(target=target, splits=splits), note)
    if report is not None:
        _write(report, made, request)
    if as_json:
        emit(_evaluation_json(made, request, splits))
    else:
        _show_evaluation(made, target)


def _revision(text: str | None) -> int | Literal["newest"] | None:
    if text is None:
        return None
    if text == "newest":
        return "newest"
    if not text.isdecimal() or not 1 <= int(text) <= MOST_REVISION:
        raise ConfigurationError(f"There is no decision {text!r}; give the number of a revision, or newest.")
    return int(text)


def _stored(spec: ModelSpec, revision: int | Literal["newest"]) -> Decision:
    """What the ledger holds; of the embedded one too."""
    with opened_ledger("pictograph evaluate") as database:
        known = register(database, spec)
        if revision == "newest":
            return known.decision
        with database.transaction() as connection:
            return stored_decision(connection, known.model_id, revision)


def _write(report: Path, made: Study, request: Request) -> None:
    title = f"{made.spec.name} on {request.folder.name}"
    about = f"Decision: {constants_of(made.spec.decision)}. Taxonomy {made.taxonomy.name}."
    try:
        report.write_text(html(title, about, made.sections, made.taxonomy), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"The report cannot be written to {report}: {error}.") from error
    note(f"The report is in {report}.")


def _evaluation_json(made: Study, request: Request, splits: int) -> dict[str, Any]:
    sets = {result.name: answer.as_json(result, made.taxonomy) for result in made.results}
    first = made.results[0]
    return {
        "model": made.spec.name,
        "taxonomy": made.taxonomy.name,
        "taxonomy_sha256": made.taxonomy.sha256,
        "decision": asdict(made.spec.decision),
        "labelled": str(request.folder),
        "left_out": made.left_out,
        "copies": request.copies,
        "splits": splits,
        "default": sets[first.name]["default"],  # of the photos as they are
        "sets": sets,
    }


def _show_evaluation(made: Study, target: float) -> None:
    say(f"{made.spec.name}: {constants_of(made.spec.decision)} (revision {made.spec.decision.revision}).")
    if made.left_out:
        say(f"{made.left_out} files without a synset id in their names were left out.")
    for result in made.results:
        _show_set(result, made.taxonomy, target)
    say("")
    say("; ".join(f"{name}: {what}" for name, what, _ in MEASURES) + ".")


def _show_set(result: SetResult, taxonomy: Taxonomy, target: float) -> None:
    seen, tags = result.default, result.tags
    unread = f", {result.unreadable} could not be read" if result.unreadable else ""
    say("")
    say(f"{result.name}: {result.photos} photos{unread}; label top-1 {_pc(result.top1)}, top-5 {_pc(result.top5)}")
    say(
        f"  headlines: {_pc(seen.right)} right, {_pc(seen.finer)} finer, {_pc(seen.abstained)} abstained, "
        f"{_pc(seen.wrong)} wrong ({_pc(seen.wrong_of_shown)} of those shown); {seen.bits:.2f} bits, hF1 {seen.hf1:.3f}"
    )
    say(
        f"  tags: {tags.tags:.1f} per photo, {_pc(tags.precision)} right, {_pc(tags.recall)} of the true ones; "
        f"calibration error {result.headlines.error:.3f}"
    )
    say(f"  The rules compared. {RULES_NOTE}")
    for table in _rules_tables(result.rules, target):
        out.print(table)
    _show_categories(result, taxonomy)


def _rules_tables(rules: Sequence[RuleResult], target: float) -> Iterator[Table]:
    names = [name for name, _, _ in MEASURES]
    about = "At each rule's natural constant; hAURC in thousandths, less is better."
    if rules[0].matched is None:
        about += " Half of these photos are too few to calibrate on."
    natural = _table("rule", [*names, "hAURC"], about)
    for rule in rules:
        natural.add_row(rule.name, *_figures([rule.metrics]), f"{1000 * rule.haurc.value:.0f}", style=_style(rule))
    yield natural
    if rules[0].matched is None:
        return
    halves = len(rules[0].matched.splits)
    about = (
        f"Calibrated to {100 * target:g} % on one half of the photos, on the other: means of {halves} random halves."
    )
    calibrated = _table("rule", names, about)
    for rule in rules:
        if rule.matched is not None:
            calibrated.add_row(rule.name, *_figures(rule.matched.splits), style=_style(rule))
    yield calibrated


def _figures(found: Sequence[HeadlineMetrics]) -> Iterator[str]:
    """The means of every measure, as they are printed."""
    for name, _, of in MEASURES:
        mean = sum(of(each) for each in found) / len(found)
        yield f"{mean:.2f}" if name == "bits" else f"{mean:.3f}"


def _style(rule: RuleResult) -> str | None:
    return "bold" if rule.name == "shipped" else None


def _table(first: str, numbers: Sequence[str], title: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _show_categories(result: SetResult, taxonomy: Taxonomy) -> None:
    found = result.categories
    most = sorted(range(len(found.nodes)), key=lambda place: -int(found.true[place]))[:MOST_CATEGORIES]
    about = f"Tags of the most frequent of {len(found.nodes)} categories; all with --json or --report."
    table = _table("category", ("true", "said", "precision", "recall", "F1"), about)
    for place in most:
        scores = (f"{float(values[place]):.3f}" for values in (found.precision, found.recall, found.f1))
        name = taxonomy.synsets[int(found.nodes[place])].name
        table.add_row(name, str(found.true[place]), str(found.said[place]), *scores)
    out.print(table)


# ---- calibrate


@group.command(epilog="Example: `pictograph calibrate photos --target 0.95 --degrade user:0.6 --dry-run`")
def calibrate(
    labelled: Annotated[
        Path | None,
        typer.Argument(metavar="[LABELLED]", help="A folder as `pictograph evaluate` takes it; or --from-verdicts."),
    ] = None,
    *,
    from_verdicts: Annotated[
        bool, typer.Option("--from-verdicts", help="On photos that people said something of, without reading any.")
    ] = False,
    target: Target = 0.95,
    guarantee: Annotated[
        str, typer.Option(metavar="|".join(get_args(Guarantee)), help="How often the target holds.")
    ] = "average",
    of: Annotated[
        str,
        typer.Option(metavar="|".join(get_args(Among)), help="Whose share: all photos, or those that show something."),
    ] = "shown",
    model: Model = None,
    degrade: Annotated[
        str | None, typer.Option(help="Calibrate on degraded copies, as users' photos are worse: user:0.6.")
    ] = None,
    limit: Limit = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be stored, and store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Choose the constants of the decision on labelled photos and store them as a new revision.

    Workers that start from then on decide by it; photos that were tagged before keep the decision they were tagged by,
    until `pictograph decide` decides them anew from what is stored. With --from-verdicts the photos are those that
    people gave verdicts on, as they are stored: constants that keep to the target there, and no promise about others.
    """
    goal = Goal(target=target, guarantee=_guarantee(guarantee), of=_among(of))
    if from_verdicts:
        if labelled is not None or degrade is not None or limit is not None:
            raise ConfigurationError("--from-verdicts reads no photos: leave out LABELLED, --degrade and --limit.")
        calibrate_from_verdicts(model_at_hand(model), goal, dry_run=dry_run, as_json=as_json)
        return
    if labelled is None:
        raise ConfigurationError("Name a folder of labelled photos, or give --from-verdicts.")
    settings = Settings.read()
    request = Request(
        folder=labelled,
        spec=model_at_hand(model),
        degradations=() if degrade is None else (Degradation.parse(degrade),),
        limit=limit,
        runtime=settings.runtime,
        models=registry.folder_of(settings),
    )
    with bench(request) as at_work:
        degradation = request.degradations[0] if request.degradations else None
        seen = at_work.classify(degradation, 1, note).labelled
        chosen = choose_constants(seen, at_work.taxonomy, at_work.spec.decision, goal)
    if chosen.calibrated.nothing_shown:
        raise ConfigurationError(
            f"Only by showing nothing could a target of {target:g} be kept on these {chosen.calibrated.photos} photos; "
            "choose a lower target, or give more photos. Nothing was stored."
        )
    made_from = {
        **_made_from(chosen, goal),
        "folder": str(request.folder.resolve()),
        "degradation": None if degradation is None else str(degradation),
        "unreadable": seen.unreadable,
    }
    stored = None if dry_run else _store(at_work.spec, chosen.calibrated.decision, made_from)
    if as_json:
        decision = stored or chosen.calibrated.decision
        emit({"model": at_work.spec.name, "stored": stored is not None, **asdict(decision), "calibration": made_from})
    else:
        _show_calibration(chosen, goal, stored)


def _guarantee(text: str) -> Guarantee:
    for known in get_args(Guarantee):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise ConfigurationError(f"There is no guarantee {text!r}; choose one of: {', '.join(get_args(Guarantee))}.")


def _among(text: str) -> Among:
    for known in get_args(Among):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise ConfigurationError(f"The target cannot be one of {text!r}; choose one of: {', '.join(get_args(Among))}.")


def _made_from(chosen: Chosen, goal: Goal) -> dict[str, Any]:
    """What a decision was made from, as it is stored beside it."""
    found = chosen.calibrated
    return {
        **asdict(goal),
        "photos": found.photos,
        "achieved": round(chosen.achieved, 5),
        "bound": round(1 - found.bound, 5),
        "right": round(found.right, 5),
        "finer": round(found.finer, 5),
        "abstained": round(found.abstained, 5),
        "wrong": round(found.wrong, 5),
        "bits": round(found.bits, 4),
        "ladder": [{**asdict(rung), "bound": round(1 - rung.bound, 5)} for rung in chosen.ladder],
        "held_out": None
        if chosen.held_out is None
        else {name: round(value, 5) for name, value in asdict(chosen.held_out).items()},
    }


def _store(spec: ModelSpec, decision: Decision, made_from: dict[str, Any]) -> Decision:
    """Store a decision under the model's next revision."""
    with opened_ledger("pictograph calibrate") as database:
        model_id = register(database, spec).model_id
        return database.run(lambda connection: store_decision(connection, model_id, decision, made_from))


def _show_calibration(chosen: Chosen, goal: Goal, stored: Decision | None) -> None:
    found, held = chosen.calibrated, chosen.held_out
    whose = "photos that show something" if goal.of == "shown" else "all photos"
    promise = f"{_pc(goal.target)} of {whose} without a wrong tag ({goal.guarantee})"
    say(f"Constants for {promise}: {constants_of(found.decision)}.")
    say(
        f"  On these {found.photos} photos: {_pc(chosen.achieved)}, with {_pc(found.abstained)} abstained, "
        f"{_pc(found.wrong)} wrong, {found.bits:.2f} bits."
    )
    if held is None:
        say("  Half of them are too few for the target, so there is no word on photos that were not calibrated on.")
    else:
        say(
            f"  Chosen on one half, on the other ({held.splits} random halves): {_pc(held.achieved)}, "
            f"{_pc(held.abstained)} abstained, {_pc(held.wrong)} wrong, {held.bits:.2f} bits; "
            f"below the target in {_pc(held.below_target)} of them."
        )
    if chosen.ladder and goal.of == "shown":
        targets = ", ".join(f"{rung.target:g}" for rung in chosen.ladder)
        say(f"  Whoever asks the API for a precision finds constants for {targets}.")
    say_stored(stored)
