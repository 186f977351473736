"""The numbers of an evaluation for machines: one JSON object per set; what has no value is null."""

import math
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from pictograph.evaluation.measure import Matched, RuleResult, SetResult
from taxonomy.graph import Taxonomy
from taxonomy.metrics import CategoryMetrics, HeadlineMetrics, TagMetrics


def as_json(result: SetResult, taxonomy: Taxonomy) -> dict[str, Any]:
    """A set's numbers; shares are 0 to 1, and `rules` follow the conventions of `pictograph.evaluation.rules`."""
    return {
        "photos": result.photos,
        "unreadable": result.unreadable,
        "top1": _number(result.top1),
        "top5": _number(result.top5),
        "mean_confidence": _number(result.confidence),
        "leaf_calibration_error": _number(result.labels.error),
        "mass_calibration_error": _number(result.masses.error),
        "default": {**_numbers(result.default), "calibration_error": _number(result.headlines.error)},
        "tags": _numbers(result.tags),
        "rules": {rule.name: _rule_json(rule) for rule in result.rules},
        "categories": _categories_json(result.categories, taxonomy),
    }


def _rule_json(rule: RuleResult) -> dict[str, Any]:
    area = {"value": _number(rule.haurc.value), "low": _number(rule.haurc.low), "high": _number(rule.haurc.high)}
    return {
        "about": rule.about,
        "constant": _number(rule.natural),
        **_numbers(rule.metrics),
        "haurc": area,
        "calibrated": None if rule.matched is None else _matched_json(rule.matched),
    }


def _matched_json(matched: Matched) -> dict[str, Any]:
    names = [field.name for field in fields(HeadlineMetrics) if field.name != "photos"]
    return {
        "target": matched.target,
        "splits": len(matched.splits),
        "constant": _number(float(np.median(matched.constants))),
        **{name: _number(matched.mean(name)) for name in names},
        "right_sd": _number(matched.right_sd),
        "below_target": _number(matched.below_target),
    }


def _categories_json(found: CategoryMetrics, taxonomy: Taxonomy) -> list[dict[str, Any]]:
    columns = (found.nodes.tolist(), found.true.tolist(), found.said.tolist(), found.both.tolist())
    scores = zip(found.precision, found.recall, found.f1, strict=True)
    return [
        {
            "wnid": taxonomy.synsets[node].wnid,
            "name": taxonomy.synsets[node].name,
            "true": true,
            "said": said,
            "both": both,
            "precision": _number(precision),
            "recall": _number(recall),
            "f1": _number(f1),
        }
        for (node, true, said, both), (precision, recall, f1) in zip(zip(*columns, strict=True), scores, strict=True)
    ]


def _numbers(values: HeadlineMetrics | TagMetrics) -> dict[str, Any]:
    return {name: value if isinstance(value, int) else _number(value) for name, value in asdict(values).items()}


def _number(value: float) -> float | None:
    return round(float(value), 5) if math.isfinite(value) else None
