"""How good and how quick the roll-up and its decision are; prints one JSON object.

    python benchmarks/rollup.py PHOTOS [--copies N] [--splits N]

PHOTOS holds two folders of labelled photos: imagenet/ (one photo for a class, the names start with the synset ids) and
caltech101/ (web photos, more than half of them of what is no label). The rules are calibrated on one half of degraded
ImageNet photos and measured on the other, on the probabilities that the model ships with and on the plain softmax of
its network. No split puts copies of one photo into both halves.
"""

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from pictograph.evaluation.constants import Goal, choose_constants
from pictograph.evaluation.degrade import Degradation
from pictograph.evaluation.measure import LabelledSet, Matched, Plan, measure_rule
from pictograph.evaluation.rules import all_rules
from pictograph.evaluation.study import Bench, Request, bench
from taxonomy.calibrate import Among, Guarantee
from taxonomy.decide import Decision, decide
from taxonomy.metrics import HeadlineMetrics, headline_metrics, tag_metrics, top_k
from taxonomy.rollup import Rollup
from workers.models.load import load
from workers.models.registry import get

MODEL = "efficientnet-lite0"
USER_LIKE = Degradation.parse("user:0.6")
WORSE = Degradation.parse("user:1")
TARGETS = (0.9, 0.95, 0.99)
COMPARED = ("shipped", "climb-tree", "climb-dag", "darts", "additive", "threshold", "leaf")
UNSEEN_LAM = 140_000  # about what leaving labels out, and no web photo, would choose
MORE_BITS, LESS_HF1 = 0.3, 0.005  # what the shipped rule is to gain over climbing, and may lose
ROUNDS = 30  # of the timing; the best counts, as the machine does other things too


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--copies", type=int, default=1, help="degraded copies of each photo")
    parser.add_argument("--splits", type=int, default=20)
    options = parser.parse_args()
    found = {
        "model": MODEL,
        "decision": asdict(get(MODEL).decision),
        "caltech101": web_photos(options.photos / "caltech101"),
        "imagenet": imagenet(options.photos / "imagenet", options.copies, options.splits),
    }
    print(json.dumps(found, indent=2))


def imagenet(folder: Path, copies: int, splits: int) -> dict[str, Any]:
    """The rules at common targets, and the product, on user-like copies; the shipped decision on the photos too."""
    with bench(Request(folder=folder, spec=get(MODEL))) as at_work:
        clean = at_work.classify(None, 1, _silent).labelled
        shipped = at_work.classify(USER_LIKE, copies, _silent).labelled
        worse = at_work.classify(WORSE, copies, _silent).labelled
        plain_spec = replace(at_work.spec, temperature=1.0, noise_floor=0.0)
        plainly = replace(at_work, model=load(plain_spec, plain_spec.decision))
        plain = plainly.classify(USER_LIKE, copies, _silent).labelled
        return {
            "copies": copies,
            "speed": speed(shipped, at_work),
            "shipped_decision": {of.name: _product(of, at_work) for of in (clean, shipped)},
            "calibrated": _calibrated(shipped, at_work),
            "calibrated_on_clean": _transferred(clean, (clean, shipped, worse), at_work),
            "rules_on_shipped_probabilities": _rules(shipped, at_work, splits),
            "rules_on_plain_softmax": _rules(plain, at_work, splits),
        }


def web_photos(folder: Path) -> dict[str, Any]:
    """The shipped decision on photos of the world at large, and one that was chosen without a look at them."""
    with bench(Request(folder=folder, spec=get(MODEL))) as at_work:
        seen = at_work.classify(None, 1, _silent).labelled
        unseen = replace(at_work, spec=replace(at_work.spec, decision=replace(at_work.spec.decision, lam=UNSEEN_LAM)))
        return {**_product(seen, at_work), f"at_lam_{UNSEEN_LAM // 10_000}": _product(seen, unseen)}


def speed(of: LabelledSet, at_work: Bench) -> dict[str, float]:
    """Milliseconds of processor time to roll up and decide 1,000 photos; those of the set, over and over."""
    scores = np.resize(of.probabilities, (1000, at_work.taxonomy.classes))
    rollup, decision = Rollup(at_work.taxonomy), at_work.spec.decision
    masses = rollup.masses(scores)
    rolled = _best_ms(lambda: rollup.masses(scores))
    decided = _best_ms(lambda: decide(masses, at_work.taxonomy, decision))
    return {"rollup_ms": rolled, "decide_ms": decided, "both_ms": round(rolled + decided, 2)}


def _best_ms(step: Any) -> float:  # noqa: ANN401 - a callable, whatever it returns
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        step()
        spent.append(time.process_time() - began)
    return round(1000 * min(spent), 2)


def _product(of: LabelledSet, at_work: Bench) -> dict[str, Any]:
    taxonomy, decision = at_work.taxonomy, at_work.spec.decision
    decided = decide(Rollup(taxonomy).masses(of.probabilities), taxonomy, decision)
    top = taxonomy.label_nodes[of.probabilities.argmax(axis=1)]
    tags = asdict(tag_metrics(decided, of.truth, taxonomy, decision.vague_share))
    return {
        "top1": round(top_k(of.probabilities, of.truth, taxonomy, 1), 4),
        "leaf_wrong": round(headline_metrics(top, top, of.truth, taxonomy).wrong, 4),
        **_rounded(asdict(headline_metrics(decided.headline, top, of.truth, taxonomy, decision.vague_share))),
        "tags": _rounded(tags),
    }


def _calibrated(of: LabelledSet, at_work: Bench) -> dict[str, Any]:
    """Constants by guarantee and by whose share the target is, and how they do on the other half."""
    goals = [Goal(guarantee=kind, of=among) for kind in get_args(Guarantee) for among in get_args(Among)]
    return {f"{goal.guarantee}, {goal.of}": _reached(of, at_work, goal) for goal in goals}


def _reached(of: LabelledSet, at_work: Bench, goal: Goal) -> dict[str, Any]:
    chosen = choose_constants(of, at_work.taxonomy, Decision(), goal)
    held = chosen.held_out
    return {
        "lam": chosen.calibrated.decision.lam / 10_000,
        "achieved": round(chosen.achieved, 4),
        "bits": round(chosen.calibrated.bits, 3),
        "held_out": None if held is None else _rounded(asdict(held)),
    }


def _transferred(first: LabelledSet, sets: Sequence[LabelledSet], at_work: Bench) -> dict[str, Any]:
    """What constants chosen on one set keep on others: the share without a wrong tag, of the shown and of all."""
    found: dict[str, Any] = {}
    for among in get_args(Among):
        decision = choose_constants(first, at_work.taxonomy, Decision(), Goal(of=among)).calibrated.decision
        found[among] = {of.name: round(_kept_promise(of, at_work, decision, among), 4) for of in sets}
    return found


def _kept_promise(of: LabelledSet, at_work: Bench, decision: Decision, among: Among) -> float:
    decided = decide(Rollup(at_work.taxonomy).masses(of.probabilities), at_work.taxonomy, decision)
    wrong = tag_metrics(decided, of.truth, at_work.taxonomy, decision.vague_share).wrong
    return 1 - wrong / (float(np.mean(decided.headline >= 0)) if among == "shown" else 1.0)


def _rules(of: LabelledSet, at_work: Bench, splits: int) -> dict[str, Any]:
    rules = [rule for rule in all_rules(at_work.taxonomy, at_work.spec.decision) if rule.name in COMPARED]
    found: dict[str, Any] = {"top1": round(top_k(of.probabilities, of.truth, at_work.taxonomy, 1), 4)}
    for target in TARGETS:
        plan = Plan(target=target, splits=splits)
        results = {rule.name: measure_rule(rule, of, at_work.taxonomy, plan) for rule in rules}
        matched = {name: result.matched for name, result in results.items() if result.matched is not None}
        found[str(target)] = {
            **{name: _means(each) for name, each in matched.items()},
            **{
                f"gain_over_{name}": _gain(matched["shipped"].splits, matched[name].splits)
                for name in ("climb-tree", "climb-dag")
                if matched
            },
        }
        found["haurc"] = {name: round(1000 * result.haurc.value, 1) for name, result in results.items()}
    return found


def _means(matched: Matched) -> dict[str, float]:
    names = ("right", "bits", "hf1", "exact", "true_useful", "rescue", "vague")
    means = {name: matched.mean(name) for name in names}
    return _rounded({**means, "right_sd": matched.right_sd, "below_target": matched.below_target})


def _gain(ours: Sequence[HeadlineMetrics], theirs: Sequence[HeadlineMetrics]) -> dict[str, float]:
    """How much more the shipped rule tells, split by split, and in how many splits it does as well as it should."""
    pairs = list(zip(ours, theirs, strict=True))
    bits = [our.bits - their.bits for our, their in pairs]
    hf1 = [our.hf1 - their.hf1 for our, their in pairs]
    reached = [more >= MORE_BITS and change >= -LESS_HF1 for more, change in zip(bits, hf1, strict=True)]
    return _rounded(
        {
            "bits": statistics.fmean(bits),
            "bits_sd": statistics.pstdev(bits),
            "least_bits": min(bits),
            "hf1": statistics.fmean(hf1),
            "least_hf1": min(hf1),
            "share_of_splits": statistics.fmean(reached),
        }
    )


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}


def _silent(_line: str) -> None:
    """Nobody is told about progress."""


if __name__ == "__main__":
    main()
