"""The import rules name what they mean to forbid, whole."""

import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
OPEN_TO_THE_API = {"send", "decode"}


def test_every_other_module_of_the_workers_is_closed_to_the_api():
    rules = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    (rule,) = [contract for contract in rules["contracts"] if contract.get("source_modules") == ["api"]]
    modules = {path.stem for path in (REPOSITORY / "workers").iterdir() if not path.name.startswith("_")}
    closed = {name.removeprefix("workers.") for name in rule["forbidden_modules"] if name.startswith("workers.")}
    assert closed == modules - OPEN_TO_THE_API
