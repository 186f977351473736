"""Categories: what a name means, what lies around a category, and everyone's photos of it."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy import Connection

from api.answers import answered, cacheable, stamped, unchanged
from api.auth import CategoryDesk, Desk
from api.errors import Problem
from api.parameters import only
from api.schemas.categories import CategoriesOut, CategoryOut, CategoryPhotosOut, CategoryUsersOut, ChildrenOut
from api.tokens import next_link, opened, seal, signature
from api.views import categories
from api.views.gallery import Reader, overview
from api.views.profiles import EDITION
from pipeline.records import WHOLE

router = APIRouter(prefix="/v1/categories", tags=["categories"])

JSON = "application/json"
LONGEST_NAME = 200  # letters; no category's name is half as long

Node = Annotated[str, Path(description="synset id, such as n02084071; /v1/categories?name= resolves names")]
PageSize = Annotated[int, Query(ge=1, le=500, description="how many on a page, at most")]
PageToken = Annotated[str | None, Query(description="next_page_token of the page before")]
Name = Annotated[str | None, Query(min_length=1, max_length=LONGEST_NAME, description="a name, one of several senses")]
Prefix = Annotated[str | None, Query(min_length=1, max_length=LONGEST_NAME, description="how a word begins")]
Order = Literal["probability", "newest", "diverse"]

#: What an answer says once it has the token of the page behind it, and where that page begins.
Page = tuple[Callable[[str | None], BaseModel], Sequence[object] | None]


@router.get(
    "", response_model=CategoriesOut, dependencies=[only("name", "prefix", "page_size")], operation_id="find_categories"
)
def find_categories(
    request: Request, desk: CategoryDesk, name: Name = None, prefix: Prefix = None, page_size: PageSize = 50
) -> Response:
    """Every category of a name, or those of which a name, or a word in one, begins with a prefix.

    Case, and whether words are joined by spaces or underscores, say nothing. Several categories may have one name: a
    crane is a bird and a machine. Where there is none of the name, `near` has names that look like it.
    """
    if (name is None) == (prefix is None):
        detail = "Give either name or prefix."
        error = {"pointer": "query.name", "code": "one_of_two", "detail": detail}
        raise Problem(HTTPStatus.BAD_REQUEST, "invalid_parameter", detail, [error])

    def find(connection: Connection, reader: Reader) -> Page:
        if name is not None:
            found = categories.senses(connection, reader, name)
        else:
            found = categories.beginning(connection, reader, prefix or "", page_size)
        return lambda _: CategoriesOut.of(found), None

    return _answer(request, desk, find)


@router.get("/{node}", response_model=CategoryOut, dependencies=[only()], operation_id="get_category")
def get_category(request: Request, desk: CategoryDesk, node: Node) -> Response:
    """A category: its place in the tree, its counts, and what is related. Of those with the same labels one answers."""

    def find(connection: Connection, reader: Reader) -> Page:
        found = categories.category(connection, reader, node)
        return lambda _: CategoryOut.of(found), None

    return _answer(request, desk, find)


@router.get(
    "/{node}/children",
    response_model=ChildrenOut,
    dependencies=[only("page_size", "page_token")],
    operation_id="list_category_children",
)
def list_category_children(
    request: Request, desk: CategoryDesk, node: Node, page_size: PageSize = 50, page_token: PageToken = None
) -> Response:
    """The categories right below one, those with most photos first; photos are not additive over them."""
    after = None if page_token is None else opened(request, page_token)

    def find(connection: Connection, reader: Reader) -> Page:
        found = categories.children(connection, reader, node, after, page_size)
        return lambda token: ChildrenOut.of(found, token), found.following

    return _answer(request, desk, find)


@router.get(
    "/{node}/photos",
    response_model=CategoryPhotosOut,
    dependencies=[only("sort", "min_probability", "page_size", "page_token")],
    operation_id="list_category_photos",
)
def list_category_photos(
    request: Request,
    desk: CategoryDesk,
    node: Node,
    sort: Annotated[Order, Query(description="diverse: by turns of its kinds and of users")] = "probability",
    min_probability: Annotated[float, Query(ge=0, le=1, description="of the category, 0 to 1")] = 0.0,
    page_size: PageSize = 50,
    page_token: PageToken = None,
) -> Response:
    """The photos that carry the tag: most certain first, newest first, or by turns of its kinds and of users.

    All pages together are as many as the category's count. Whatever is added meanwhile, no photo comes twice, and none
    is left out. `probability` and `diverse` put as many of the newest photos in order as `ordered` says, then the next
    ones, and so on.
    """
    after = None if page_token is None else opened(request, page_token)

    def find(connection: Connection, reader: Reader) -> Page:
        least = round(min_probability * WHOLE)
        found = categories.photos(connection, reader, node, sort, after, page_size, least)
        over = overview(connection)
        return (
            lambda token: CategoryPhotosOut.of(found, token, over.stamp.model, over.policy.version),
            found.following,
        )

    return _answer(request, desk, find)


@router.get(
    "/{node}/users", response_model=CategoryUsersOut, dependencies=[only("limit")], operation_id="list_category_users"
)
def list_category_users(
    request: Request,
    desk: CategoryDesk,
    node: Node,
    limit: Annotated[int, Query(ge=1, le=categories.MOST_PEOPLE, description="users at most")] = categories.PEOPLE,
) -> Response:
    """Who has most photos of a category, of users who consent to be seen by others."""

    def find(connection: Connection, reader: Reader) -> Page:
        found = categories.people(connection, reader, node, limit)
        over = overview(connection)
        return lambda _: CategoryUsersOut.of(found, over.stamp.model, over.policy.version), None

    return _answer(request, desk, find)


def _answer(request: Request, desk: Desk, find: Callable[[Connection, Reader], Page]) -> Response:
    """The answer, or 304 before a tag is read. Where a merge commits in between, its ETag is that of its bytes."""
    reader, signed = Reader.of(desk), signature(request)
    with desk.gallery() as connection:
        etag = stamp_of(request, connection, reader, signed)
        known = unchanged(request, etag)
        if known is not None:
            return known
        made, following = find(connection, reader)
        still = stamp_of(request, connection, reader, signed) == etag
    token = None if following is None else seal(request, following)
    body = made(token).model_dump_json()
    response = answered(body, JSON, etag) if still else cacheable(request, body, JSON)
    response.headers.update(next_link(request, token))
    return response


def stamp_of(request: Request, connection: Connection, reader: Reader, *more: object) -> str:
    """The ETag of an answer to this request; `more`: what else it depends on."""
    stamp = categories.stamp(connection)
    asked = sorted(request.query_params.multi_items())
    rough = overview(connection, stamp).stamp.revision
    return stamped(EDITION, request.url.path, asked, stamp, rough, reader, *more)
