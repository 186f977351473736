"""Constants from what people said of photos, for `pictograph calibrate --from-verdicts`."""

from dataclasses import asdict
from typing import Any

from pictograph.cli.console import emit, say
from pictograph.cli.constants import constants_of, opened_ledger, percent, say_stored
from pictograph.evaluation.constants import Goal
from pictograph.evaluation.spoken import Spoken, constants_from
from pipeline.errors import ConfigurationError
from pipeline.store.catalogue import store_decision
from pipeline.store.verdicts import judged
from taxonomy.decide import Decision
from taxonomy.graph import load as load_taxonomy
from workers.ledger import register
from workers.models.spec import ModelSpec


def calibrate_from_verdicts(spec: ModelSpec, goal: Goal, *, dry_run: bool, as_json: bool) -> None:
    """Choose constants on the photos that people said something of, from what is stored; store and show them."""
    taxonomy = load_taxonomy(spec.taxonomy)
    with opened_ledger("pictograph calibrate") as database:
        known = register(database, spec)
        with database.transaction() as connection:
            spoken = constants_from(judged(connection, known.model_id), taxonomy, known.decision, goal)
        found = spoken.calibrated
        if found.nothing_shown:
            raise ConfigurationError(
                f"Only by showing nothing could a target of {goal.target:g} be kept on these {found.photos} photos, of "
                "which all that nobody confirmed counts as wrong; choose a lower target, or have more confirmed. "
                "Nothing was stored."
            )
        made_from = _made_from_verdicts(spoken, goal)
        stored = (
            None
            if dry_run
            else database.run(lambda connection: store_decision(connection, known.model_id, found.decision, made_from))
        )
    if as_json:
        decision = asdict(stored or found.decision)
        emit({"model": spec.name, "stored": stored is not None, **decision, "calibration": made_from})
    else:
        _show(spoken, goal, stored)


def _show(spoken: Spoken, goal: Goal, stored: Decision | None) -> None:
    found = spoken.calibrated
    say(f"Constants for {percent(goal.target)} by verdicts: {constants_of(found.decision)}.")
    say(
        f"  On these {found.photos} photos with {spoken.words} verdicts, {spoken.rejected} of them rejections: "
        f"{percent(spoken.achieved)}, with {percent(found.abstained)} abstained, {found.bits:.2f} bits."
    )
    say("  A tag counted as right where somebody vouched for it or for something below it, and as wrong elsewhere.")
    say(
        "  Reviewers chose these photos, so nothing is promised about others, and no wish for a precision is met by it."
    )
    say_stored(stored)


def _made_from_verdicts(spoken: Spoken, goal: Goal) -> dict[str, Any]:
    """What a decision was made from, as it is stored beside it: without a guarantee, so it answers no wish for one."""
    found = spoken.calibrated
    return {
        "from": "verdicts",
        "target": goal.target,
        "of": goal.of,
        "guarantee": None,
        "chosen_as_for": goal.guarantee,
        "photos": found.photos,
        "verdicts": spoken.words,
        "rejections": spoken.rejected,
        "achieved": round(spoken.achieved, 5),
        "abstained": round(found.abstained, 5),
        "bits": round(found.bits, 4),
    }
