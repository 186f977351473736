"""The table of commands, and what every command's --help must have."""

import inspect

import pytest
import typer

from pictograph.cli import COMMANDS, command


def leaves() -> list[tuple[str, object]]:
    """Every command that does something, by its whole name."""
    found = []
    for name in COMMANDS:
        top = command(name)
        inner = getattr(top, "commands", None)
        found += [(f"{name} {sub}", leaf) for sub, leaf in inner.items()] if inner else [(name, top)]
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_the_summary_is_the_commands_own(name):
    own = (command(name).help or "").strip().splitlines()[0]
    assert COMMANDS[name].summary == own


@pytest.mark.parametrize(("name", "leaf"), leaves())
def test_every_help_has_an_example_that_names_the_command(name, leaf):
    assert leaf.epilog.startswith("Example: `")
    assert f"pictograph {name}" in leaf.epilog


#: What they give is data, in JSON lines unless it is asked for otherwise.
DATA = {"jobs results", "export"}


@pytest.mark.parametrize(("name", "leaf"), leaves())
def test_every_command_that_answers_does_so_in_json_too(name, leaf):
    options = {option for parameter in leaf.params for option in parameter.opts}
    assert "--json" in options or name in DATA, name


@pytest.mark.parametrize(("name", "leaf"), leaves())
def test_every_option_is_explained(name, leaf):
    assert all(parameter.help for parameter in leaf.params), name


def test_every_command_has_a_docstring():
    assert all(inspect.getdoc(leaf.callback) for _, leaf in leaves())


def test_help_needs_no_heavy_library(run_python):
    loaded = run_python("import sys, pictograph.cli; print(*sys.modules)").split()
    assert not {"torch", "sqlalchemy", "boto3", "fastapi", "celery", "numpy", "alembic"} & set(loaded)
    assert typer.__name__ in loaded


@pytest.mark.parametrize(
    ("name", "foreign"),
    [
        ("taxonomy", {"torch", "sqlalchemy", "boto3", "fastapi", "celery", "psycopg2"}),
        ("tag", {"torch", "fastapi", "timm"}),
        ("profile", {"torch", "fastapi", "celery", "timm"}),
        ("up", {"torch", "celery", "timm"}),
        ("work", {"torch", "fastapi", "timm"}),
        ("bench", {"torch", "fastapi", "celery", "timm"}),
    ],
)
def test_a_command_loads_only_what_it_needs(run_python, name, foreign):
    loaded = run_python(f"import sys, pictograph.cli.{name}; print(*sys.modules)").split()
    assert not foreign & set(loaded)
