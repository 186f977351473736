"""The sabotages still fit the code: where one has lost its place, `make mutants` would end half-way."""

import pytest

from tests.chaos.mutants import REPOSITORY, Change
from tests.chaos.sabotages import MUTANTS

CHANGES = [(mutant.name, change) for mutant in MUTANTS for change in mutant.changes]


@pytest.mark.parametrize("change", [change for _, change in CHANGES], ids=[name for name, _ in CHANGES])
def test_the_place_of_a_sabotage_is_found_once(change: Change) -> None:
    text = (REPOSITORY / change.file).read_text(encoding="utf-8")
    assert text.count(change.old) == 1
    compile(text.replace(change.old, change.new), change.file, "exec")


def test_there_are_nine_and_each_has_tests() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == 9
    assert all((REPOSITORY / test.partition("::")[0]).is_file() for mutant in MUTANTS for test in mutant.tests)
