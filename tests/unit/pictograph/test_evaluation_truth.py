import json
import os
from pathlib import Path

import pytest

from pictograph.evaluation.truth import read_folder, truth_of
from pipeline.errors import ConfigurationError
from taxonomy.graph import load
from taxonomy.nouns import load as load_nouns
from taxonomy.truth import Verdict

PHOTOS = Path(os.environ.get("PICTOGRAPH_TEST_PHOTOS", Path(__file__).parents[4] / "shared" / "photos"))

TENCH, DOG, CRAB, OKAPI = "n01440764", "n02084071", "n01976957", "n02439398"
FISH, DOBERMANN, MAMMAL, FIDDLER_CRAB, BOAT = "n02512053", "n02107142", "n01861778", "n01980166", "n02858304"

needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason=f"no photographs in {PHOTOS}; set PICTOGRAPH_TEST_PHOTOS")


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def labelled(folder, entries):
    (folder / "labels.json").write_text(entries if isinstance(entries, str) else json.dumps(entries))
    return read_folder(folder)


def test_names_of_files_and_of_folders_are_labels(tmp_path):
    touch(tmp_path, f"{TENCH}_tench.JPEG", f"{DOG}.jpg", f"{CRAB}/1.jpg", f"{CRAB}/{OKAPI}_2.jpg", "README.md")
    touch(tmp_path, f"{TENCH}5.jpg", "x/3.jpg")  # nine digits are no synset id
    found = read_folder(tmp_path)
    assert {photo.path.name: photo.wnid for photo in found.photos} == {
        f"{TENCH}_tench.JPEG": TENCH,
        f"{DOG}.jpg": DOG,
        "1.jpg": CRAB,
        f"{OKAPI}_2.jpg": OKAPI,
    }
    assert found.left_out == 3


def test_a_folder_that_is_named_like_a_synset_labels_nothing_itself(tmp_path):
    folder = tmp_path / f"{TENCH}_things"
    touch(folder, "1.jpg", f"{DOG}.jpg")
    assert read_folder(folder).wnids == (DOG,)


def test_a_list_of_labels_beats_names_and_keeps_its_order(tmp_path):
    touch(tmp_path, f"{TENCH}.jpg", "sub/b.jpg", "unlisted.jpg")
    found = labelled(
        tmp_path, [{"file": "sub/b.jpg", "wnid": OKAPI, "synset": "?"}, {"file": f"{TENCH}.jpg", "wnid": DOG}]
    )
    assert found.wnids == (OKAPI, DOG)
    assert found.photos[0].path == tmp_path / "sub/b.jpg"
    assert found.left_out == 0


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("{", "as JSON"),
        ({"file": "a.jpg"}, "not a list"),
        ([], "no labelled photo"),
        ([{"file": "a.jpg", "objects": ["dog"]}], "Entry 1 .* lacks"),
        ([{"file": "a.jpg", "wnid": "dog.n.01"}], "lacks"),
        ([{"file": 7, "wnid": DOG}], "lacks"),
        (["a.jpg"], "lacks"),
        ([{"file": "none.jpg", "wnid": DOG}], "not there"),
        ([{"file": "a.jpg", "wnid": DOG}, {"file": "a.jpg", "wnid": CRAB}], "Entry 2 .* again"),
    ],
)
def test_a_bad_list_is_refused_by_entry(tmp_path, entries, message):
    touch(tmp_path, "a.jpg")
    with pytest.raises(ConfigurationError, match=message):
        labelled(tmp_path, entries)


def test_a_folder_without_labelled_photos_is_refused(tmp_path):
    touch(tmp_path, "holiday.jpg")
    with pytest.raises(ConfigurationError, match="no labelled photo"):
        read_folder(tmp_path)
    with pytest.raises(ConfigurationError, match="not a folder"):
        read_folder(tmp_path / "holiday.jpg")


@pytest.mark.parametrize(
    ("true", "shown", "verdict"),
    [
        (TENCH, TENCH, Verdict.RIGHT),
        (TENCH, FISH, Verdict.RIGHT),
        (TENCH, DOG, Verdict.WRONG),
        (DOG, DOBERMANN, Verdict.FINER),
        (CRAB, FIDDLER_CRAB, Verdict.FINER),
        (OKAPI, MAMMAL, Verdict.RIGHT),  # neither a label nor above one
        (OKAPI, DOG, Verdict.WRONG),
        ("n03612010", BOAT, Verdict.WRONG),  # a ketch is a sailing vessel, which is no boat
    ],
)
def test_right_is_what_it_is_or_lies_above_it(true, shown, verdict):
    taxonomy = load()
    truth = truth_of([true], taxonomy, load_nouns())
    node = taxonomy.node(shown)
    assert truth.judge([0], [node])[0] == verdict


def test_the_graph_and_the_table_of_nouns_agree():
    taxonomy, nouns = load(), load_nouns()
    for node, synset in enumerate(taxonomy.synsets):
        above = {taxonomy.synsets[other].wnid for other in taxonomy.distances[node]}
        assert nouns.at_or_above(synset.wnid) == above


def test_what_is_no_noun_is_refused():
    with pytest.raises(ConfigurationError, match="n00000001"):
        truth_of([DOG, "n00000001"], load(), load_nouns())


@needs_photos
@pytest.mark.parametrize(("name", "photos", "synsets"), [("imagenet", 500, 500), ("caltech101", 504, 81)])
def test_the_shared_photographs_are_all_understood(name, photos, synsets):
    found = read_folder(PHOTOS / name)
    truth = truth_of(found.wnids, load(), load_nouns())
    assert (len(truth), len(truth.wnids), found.left_out) == (photos, synsets, 0)
    assert truth.right[:, 0].all()  # everything is an entity
