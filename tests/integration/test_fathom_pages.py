"""Pages about categories and photos, over the store: what they show, to whom, and what their forms do."""

import re
from urllib.parse import unquote

import pytest
from api_helpers import STRANGE, ClientAs, Library
from fastapi.testclient import TestClient
from httpx import Response
from sqlalchemy import Engine, event

from api.auth import Scope
from api.routes.fathom_pages import SHOTS

HTML = {"accept": "text/html"}
PUG, DOG, CRANES = "n02110958", "n02084071", ("n03126707", "n02012849")


def shown_photos(page: str) -> list[int]:
    """The photos of a category's list, in order."""
    stream = re.search(r"data-stream.*?</ul>", page, re.DOTALL)
    return [int(found) for found in re.findall(r'href="/p/(\d+)"', stream[0] if stream else "")]


def following(page: str) -> str | None:
    found = re.search(r'data-more><a class="button" href="([^"]+)"', page)
    return found[1].replace("&amp;", "&") if found else None


def here(page: str) -> str:
    """The place in the queue that a review page's forms name."""
    found = re.search(r'name="here" value="([^"]*)"', page)
    assert found
    return found[1]


def asked_about(page: str) -> int:
    found = re.search(
        r'name="photo" value="(\d+)"><input type="hidden" name="here"', page.split('class="one review"')[1]
    )
    assert found
    return int(found[1])


def get(client: TestClient, address: str, status: int = 200) -> str:
    answer = client.get(address, headers=HTML)
    assert answer.status_code == status, answer.text
    return answer.text


def post(client: TestClient, address: str, **values: object) -> Response:
    return client.post(address, data=values, headers=HTML, follow_redirects=False)


def test_the_entrance_leads_to_categories_and_people_and_finds_all_senses(people: Library, client: TestClient) -> None:
    for user in STRANGE:
        people.add(user, "pug")
    page = get(client, "/")
    assert "<script>" not in page
    assert f'<a class="cover" href="/c/{people.taxonomy.synsets[people.taxonomy.find("animal")[0]].wnid}"' in page
    assert f"{len(STRANGE)} photos" in page
    assert page.count("/profile.svg?") == len(STRANGE)
    found = get(client, "/?q=crane")
    assert all(f'href="/c/{wnid}"' in found for wnid in CRANES)
    assert "2 of them have this very name" in found
    assert "No category is called that" in get(client, "/?q=%3Cscript%3Ezzz")
    assert client.get("/?page=2").json()["code"] == "unknown_parameter"
    assert client.get("/?q=" + "x" * 101).status_code == 400


def test_a_category_lists_every_photo_once_over_its_pages(people: Library, client: TestClient) -> None:
    taken = [people.add(f"user {i % 4}", "pug", certain=0.9 + i / 1000, day=i % 30) for i in range(SHOTS + 3)]
    page = get(client, f"/c/{DOG}")
    assert f"<strong>{len(taken)} photos</strong>" in page
    assert f'href="/c/{PUG}"' in page
    first, address = shown_photos(page), following(page)
    assert first[0] == taken[-1]  # the surest
    assert address is not None
    second = get(client, address)
    assert "Back to the first photos" in second
    assert following(second) is None
    assert sorted(first + shown_photos(second)) == sorted(taken)
    newest = shown_photos(get(client, f"/c/{DOG}?sort=newest"))
    assert newest[0] in taken[29::30]
    assert get(client, address.replace(DOG, PUG), 400)  # the token is of the other list
    assert "There is no" in get(client, "/c/n99999999", 404)
    assert get(client, f"/c/{DOG}?sort=best", 400)


def test_many_photos_take_no_more_statements_than_one(people: Library, client: TestClient) -> None:
    photos = [people.add(f"user {i % 3}", "pug", day=i) for i in range(12)]
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        asked.append(statement)

    def statements(address: str) -> int:
        asked.clear()
        get(client, address)
        return len(asked)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        get(client, f"/c/{DOG}?page_size=1")  # what is read once for all is read now
        assert statements(f"/c/{DOG}?page_size=11") == statements(f"/c/{DOG}?page_size=1")
        assert statements("/") <= 20
        assert statements(f"/p/{photos[5]}") <= 20
        assert statements("/review") <= 20
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_too_few_people_are_said_so_in_words_and_links_lead_where_one_may_go(
    people: Library, client_as: ClientAs
) -> None:
    mine, theirs = people.add("ann", "pug"), people.add("ben", "pug")
    people.consent("ben")
    page = get(client_as("ann"), f"/c/{DOG}")
    assert "so their photos are neither counted nor shown" in page
    assert shown_photos(page) == [mine]
    assert f"/p/{theirs}" not in page
    for user in ("ben", "carl", "dora", "emil", "fay", "gus"):
        people.add(user, "pug")
        people.consent(user)
    page = get(client_as("ann"), f"/c/{DOG}")
    assert f"/p/{theirs}" in page
    assert 'href="/u/ann"' in page
    assert 'href="/u/ben"' not in page  # his profile is not hers to see
    assert 'href="/compare/ann/ben"' in page
    assert 'href="/u/ben"' in get(client_as(None), f"/c/{DOG}")


def test_a_photo_shows_its_tags_from_broad_to_fine_and_why(people: Library, client: TestClient) -> None:
    before, photo, after = (people.add("a <b>", "pug", certain=0.97, day=day) for day in (1, 2, 3))
    page = get(client, f"/p/{photo}")
    names = re.findall(r'class="tag-name"><a href="/c/n\d+">([^<]+)</a>', page)
    assert names.index("animal") < names.index("dog") < names.index("pug")
    assert "a &lt;b&gt;" in page
    assert "<b>," not in page
    assert f'href="/p/{before}" rel="prev"' in page
    assert f'href="/p/{after}" rel="next"' in page
    why = get(client, f"/p/{photo}?why={DOG}")
    assert "Why dog?" in why
    assert "lies in labels that are kinds of dog" in why
    assert "To the last digit" in why
    shares = [float(found) for found in re.findall(r'<td class="figure">(?:<strong>)?([\d.]+) %', why)]
    assert sum(shares[:-1]) == pytest.approx(shares[-1])
    assert "itself" in get(client, f"/p/{photo}?why={PUG}")
    assert get(client, f"/p/{photo}?why=dog", 400)
    assert get(client, "/p/999999", 404)


def test_words_about_a_photo_are_said_shown_and_taken_back(people: Library, client_as: ClientAs) -> None:
    photo, nothing = people.add("ann", "pug", certain=0.97), people.add("ann", "pug", certain=0.01)
    ann = client_as("ann")
    said = post(ann, f"/p/{photo}", node=DOG, verdict="confirm")
    assert (said.status_code, said.headers["location"]) == (303, f"/p/{photo}?said={DOG}")
    page = get(ann, said.headers["location"])
    assert "Noted: it is dog." in page
    assert "It is <a" in page
    assert "confirmed" in page
    assert "Noted: it is not pug." in get(ann, post(ann, f"/p/{photo}", node=PUG, verdict="reject").headers["location"])
    taken = get(ann, post(ann, f"/p/{photo}", node=DOG, verdict="undo").headers["location"])
    assert "Taken back: nothing is said of dog any more." in taken
    assert 'value="generalise"' in get(ann, f"/p/{nothing}")  # some kind of the broadest there are
    assert post(ann, f"/p/{photo}", node=DOG, verdict="undo").status_code == 404
    assert post(ann, f"/p/{photo}", node=DOG, verdict="maybe").status_code == 400
    # Another's photo is not there, and who may not judge finds no buttons.
    assert post(client_as("ben"), f"/p/{photo}", node=DOG, verdict="confirm").status_code == 404
    assert get(client_as("ben"), f"/p/{photo}", 404)
    reader = client_as("ann", Scope.PHOTO_READ, Scope.CATEGORY_READ)
    assert '<form method="post"' not in get(reader, f"/p/{photo}")


def test_review_leads_from_one_photo_to_the_next_and_back(people: Library, client: TestClient) -> None:
    older, newer = (people.add("ann", "pug", certain=0.2, day=day) for day in (1, 2))
    page = get(client, "/review")
    assert asked_about(page) == newer
    place = here(page)
    said = post(client, "/review", photo=newer, node=PUG, verdict="confirm", here=place)
    assert said.status_code == 303
    page = get(client, said.headers["location"])
    assert "Noted: it is pug." in page
    assert asked_about(page) == older
    back = get(client, post(client, "/review", photo=newer, node=PUG, verdict="undo", here=place).headers["location"])
    assert "Taken back." in back
    assert asked_about(back) == newer
    skip = re.search(r'href="(/review\?page_token=[^"]+)" aria-keyshortcuts="s"', back)
    assert skip
    assert asked_about(get(client, unquote(skip[1]))) == older
    none = post(client, "/review", photo=newer, node=[PUG, DOG], verdict="reject", here=place)
    assert "Noted: it is not pug or dog." in get(client, none.headers["location"])
    post(client, "/review", photo=older, node=DOG, verdict="generalise")
    assert "every photo has a tag" in get(client, "/review")


def test_review_takes_words_in_people_s_own_spelling(people: Library, client: TestClient) -> None:
    photo = people.add("ann", "pug", certain=0.2)
    several = get(
        client, post(client, "/review", photo=photo, word=" Crane ", verdict="generalise").headers["location"]
    )
    assert all(f'type="radio" name="node" value="{wnid}"' in several for wnid in CRANES)
    unknown = post(client, "/review", photo=photo, word="<b>zzz", verdict="generalise").headers["location"]
    assert "No category is called “<bdi>&lt;b&gt;zzz</bdi>”" in get(client, unknown)
    assert post(client, "/review", photo=photo, verdict="generalise").status_code == 400
    assert post(client, "/review", photo=photo, node="dog", verdict="confirm").status_code == 404
    assert client.get("/review?page_token=made-up").status_code == 400
    done = post(client, "/review", photo=photo, word="Domestic_dog", verdict="generalise").headers["location"]
    assert "Noted: it is some kind of dog." in get(client, done)
