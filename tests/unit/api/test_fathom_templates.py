from dataclasses import replace
from itertools import pairwise

import pytest

from api.pages.render import page
from api.routes.fathom_pages import MOST_STEPS, called, in_words, path, steps
from api.views.cards import Card
from api.views.categories import Ref, Sense
from api.views.naming import Tag
from pipeline.store.queries import UserSummary
from taxonomy.graph import Taxonomy, load

NASTY = '<b onclick="x">"&'


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return load()


def tag(name: str, mass: int | None, taxonomy: Taxonomy) -> Tag:
    node = taxonomy.find(name)[0]
    parent = int(taxonomy.display_parent[node])
    return Tag(
        wnid=taxonomy.synsets[node].wnid,
        name=name,
        mass=mass,
        depth=int(taxonomy.depth[node]),
        parent_wnid=taxonomy.synsets[parent].wnid,
        kind="ancestor",
        headline=False,
        verdict=None,
        source="model",
    )


def listed(tags: list[Tag], taxonomy: Taxonomy) -> list[tuple[str, int]]:
    return [(each.tag.name, each.step) for each in steps(tags, taxonomy)]


def test_tags_go_from_broad_to_fine_and_are_set_in_by_those_above_them(taxonomy: Taxonomy) -> None:
    names = ["hound", "animal", "carnivore", "dog"]
    tags = [tag(name, 9000, taxonomy) for name in names]
    assert listed(tags, taxonomy) == [("animal", 0), ("carnivore", 1), ("dog", 2), ("hound", 3)]


def test_the_surest_branch_comes_first_and_stays_together(taxonomy: Taxonomy) -> None:
    masses = {"truck": 8000, "dog": 3000, "animal": 3100, "vehicle": 8500}
    tags = [tag(name, mass, taxonomy) for name, mass in masses.items()]
    assert listed(tags, taxonomy) == [("vehicle", 0), ("truck", 1), ("animal", 0), ("dog", 1)]


def test_what_a_person_said_needs_no_mass_and_deep_tags_stay_on_the_page(taxonomy: Taxonomy) -> None:
    node = taxonomy.find("beagle")[0]
    way = [n for n in path(node, taxonomy)[1:] if len(taxonomy.find(taxonomy.synsets[n].name)) == 1]
    found = listed([tag(taxonomy.synsets[n].name, None, taxonomy) for n in way], taxonomy)
    assert [step for _, step in found] == [min(i, MOST_STEPS) for i in range(len(way))]
    assert found[-1][0] == "beagle"
    assert len(way) > MOST_STEPS


def test_a_path_leads_from_the_root_to_the_category(taxonomy: Taxonomy) -> None:
    way = path(taxonomy.find("dog")[0], taxonomy)
    assert [taxonomy.synsets[way[0]].name, taxonomy.synsets[way[-1]].name] == ["entity", "dog"]
    assert all(taxonomy.display_parent[below] == above for above, below in pairwise(way))


def test_a_photo_is_called_what_a_person_says_and_never_what_one_rejected(taxonomy: Taxonomy) -> None:
    hound, dog = tag("hound", 5000, taxonomy), tag("dog", 9000, taxonomy)
    headline = replace(dog, headline=True)
    assert called([]) is None
    assert called([hound, headline]) == "dog"
    assert called([replace(hound, kind="tag", verdict="confirmed"), headline]) == "hound"
    assert called([hound, replace(headline, verdict="rejected")]) == "hound"
    assert called([replace(headline, verdict="rejected")]) is None


def test_verdicts_are_clauses() -> None:
    assert in_words("confirm", ["dog"]) == "it is dog"
    assert in_words("reject", ["dog", "wolf"]) == "it is not dog or wolf"
    assert in_words("generalise", ["canine"]) == "it is some kind of canine"


def card(name: str, photos: int | None, *, withheld: bool = False) -> Card:
    return Card(
        wnid="n02084071",
        name=name,
        gloss=NASTY,
        photos=photos,
        withheld=withheld,
        vague=False,
        own=None,
        cover=None if withheld else 7,
    )


def sense(name: str) -> Sense:
    return Sense(
        wnid="n02084071",
        name=name,
        aliases=(NASTY,),
        gloss=NASTY,
        path=(Ref(wnid="n00001740", name="entity"),),
        photos=3,
        withheld=False,
        vague=False,
        own=None,
    )


def entrance(**values: object) -> str:
    usual = {"principal": None, "asked": "", "q": "", "cards": (), "further": (), "users": (), "more_people": False}
    return page("index.html", **{**usual, **values})


def test_the_entrance_escapes_names_and_says_what_is_withheld_in_words() -> None:
    users = [UserSummary(name=NASTY, photos=1)]
    cards = (card(NASTY, 1234), card("rare", None, withheld=True))
    shown = entrance(cards=cards, further=(card("last", 5),), users=users, more_people=True)
    assert "<b onclick" not in shown
    assert "1,234 photos" in shown
    assert 'Also <a href="/c/n02084071">last</a> <span class="quiet">5 photos</span></p>' in shown
    assert "few people" in shown
    assert 'href="/u/%3Cb%20onclick%3D%22x%22%3E%22%26"' in shown
    assert 'href="/people"' in shown


def test_results_tell_senses_apart_and_what_was_asked_is_text() -> None:
    shown = entrance(asked=NASTY, q=NASTY, senses=(sense("crane"), sense("crane")), alike=2)
    assert "<b onclick" not in shown
    assert "2 of them have this very name" in shown
    assert shown.count('<a href="/c/n02084071">crane</a>') == 2
    assert "No category is called that" in entrance(asked="zzz", q="zzz", senses=(), alike=0)


@pytest.mark.parametrize(
    "shown",
    [entrance(cards=(card("dog", 2),)), entrance(asked="dog", q="dog", senses=(sense("dog"),), alike=1), entrance()],
)
def test_no_style_and_no_script_stands_in_a_page(shown: str) -> None:
    assert not any(forbidden in shown for forbidden in ("<style", "style=", 'onclick="', "http://", "https://"))
    assert '<script type="module" src="/static/' in shown
