import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from taxonomy.errors import DamagedTaxonomy, UnknownSynset, WordNetMissing
from taxonomy.nouns import NAME, Nouns, decode, encode, load, read
from taxonomy.nouns_build import build, write

DATA = Path(str(files("taxonomy"))) / "data"
WORDNET = Path(os.environ.get("WORDNET_DIR", "/usr/share/wordnet"))

# 1 <- 2, 3; 2 and 3 <- 4 (two parents); 5 stands alone
SMALL = Nouns(numbers=np.array([1, 20, 30, 40, 99]), counts=np.array([0, 1, 1, 2, 0]), above=np.array([0, 0, 1, 2]))


def test_all_paths_lead_up():
    assert SMALL.at_or_above("n00000040") == {"n00000001", "n00000020", "n00000030", "n00000040"}
    assert SMALL.at_or_above("n00000099") == {"n00000099"}


@pytest.mark.parametrize(
    "wnid", ["n00000002", "n00000100", "v00000020", "n20", "n0000002O", "n٠٠٠٠٠٠٤٠", "", "dog.n.01"]
)
def test_what_is_no_noun_is_named(wnid):
    with pytest.raises(UnknownSynset, match="has no noun"):
        SMALL.at_or_above(wnid)


def test_the_table_that_ships_is_all_of_wordnet():
    nouns = load()
    assert (len(nouns), len(nouns.above)) == (82_115, 84_427)
    assert nouns.numbers[nouns.counts == 0].tolist() == [1740]  # entity is the only root
    assert {"n02083346", "n01317541"} <= nouns.at_or_above("n02084071")  # dog: canine, and domestic animal
    assert "n09360122" in nouns.at_or_above("n09277010")  # Everest is an instance of a mountain peak


def test_it_survives_being_written(tmp_path):
    write(SMALL, tmp_path)
    again = read(tmp_path)
    for name in ("numbers", "counts", "above"):
        assert getattr(again, name).tolist() == getattr(SMALL, name).tolist()


@pytest.mark.parametrize(
    "nouns",
    [
        Nouns(numbers=np.array([1, 2]), counts=np.array([0, 2]), above=np.array([0])),
        Nouns(numbers=np.array([1, 2]), counts=np.array([0, 1]), above=np.array([2])),
        Nouns(numbers=np.array([1, 2]), counts=np.array([1]), above=np.array([0])),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(nouns):
    with pytest.raises(DamagedTaxonomy, match="contradicts"):
        decode(encode(nouns))


def test_damage_is_noticed(tmp_path):
    path = write(SMALL, tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DamagedTaxonomy, match="not the one that was built"):
        read(tmp_path)
    with pytest.raises(DamagedTaxonomy, match="no table"):
        decode(data[: len(data) // 2])
    (tmp_path / f"{NAME}.sha256").unlink()
    with pytest.raises(DamagedTaxonomy, match="cannot be read"):
        read(tmp_path)


@pytest.mark.skipif(not (WORDNET / "data.noun").is_file(), reason=f"no WordNet files in {WORDNET}; set WORDNET_DIR")
def test_building_again_gives_the_same_table():
    again, shipped = build(WORDNET), load()
    for name in ("numbers", "counts", "above"):
        assert np.array_equal(getattr(again, name), getattr(shipped, name))


def test_a_folder_without_wordnet_is_refused(tmp_path):
    with pytest.raises(WordNetMissing):
        build(tmp_path)
