"""The README's configuration table is the settings' own."""

import re
from pathlib import Path

from pipeline.settings import PREFIX, Settings

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


def rows() -> dict[str, str]:
    """Variable to default, one entry per variable, as the table says."""
    found = {}
    for line in README.splitlines():
        if line.startswith(f"| `{PREFIX}"):
            _, names, defaults, *_ = (cell.strip() for cell in line.split("|"))
            variables = re.findall(r"`(\w+)`", names)
            values = re.findall(r"`([^`]+)`", defaults) or [defaults]
            found.update(zip(variables, values * len(variables) if len(values) == 1 else values, strict=True))
    return found


def test_every_setting_is_in_the_table_and_nothing_else():
    assert set(rows()) == {PREFIX + name.upper() for name in Settings.model_fields}


def test_defaults_are_those_of_the_settings():
    for variable, told in rows().items():
        default = Settings.model_fields[variable.removeprefix(PREFIX).lower()].default
        if (told[0].islower() and " " in told) or told == "embedded":
            continue  # "embedded", "the usual AWS chain", "the platform's user data folder": described, not quoted
        assert str(default).removesuffix(".0") == told, variable
