"""The OpenAPI document: what routes say of themselves, and what holds for all of them.

A route says what is peculiar to it: parameters, the answer, a problem that no other one has. Who may ask, which
problems may come back, what 304 means and which headers come along is the same everywhere, and is added here, from what
the operation is: whether it wants a key, names a thing in its address, takes a body, is a list.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from api.access.sessions import COOKIE
from api.errors import MEDIA_TYPE, ProblemOut

Json = dict[str, Any]

JSON = "application/json"
EVENTS = "text/event-stream"  # not cached
FORMATS = frozenset({"svg", "png", "csv"})
METHODS = frozenset({"get", "post", "put", "patch", "delete"})

INFO: Json = {
    "title": "Pictograph",
    "summary": "What people photograph: tags of photos, profiles of users, categories, jobs.",
    "description": (
        "Categories are WordNet's; their identity is the synset id (`wnid`), and `/v1/categories?name=` finds it. "
        "`probability` goes from 0 to 1; a `mass` is counted in ten-thousandths of a photo, and adds up. Times are "
        "UTC. A query parameter that is not listed is refused. docs/api.md has worked examples."
    ),
}

TAGS: list[Json] = [
    {"name": "users", "description": "what users photograph, and how they compare"},
    {"name": "photos", "description": "single photos, their tags, and why they have them"},
    {"name": "verdicts", "description": "what people say of photos, and the photos that want it said"},
    {"name": "categories", "description": "what a name means, what lies around it, and everyone's photos of it"},
    {"name": "jobs", "description": "tagging in bulk: started, watched, commanded; for keys that are bound to nobody"},
    {"name": "models", "description": "models, and what another one would change; for keys that are bound to nobody"},
    {"name": "health", "description": "for probes"},
]

KEY, SESSION = "key", "session"
SCHEMES: Json = {
    KEY: {"type": "http", "scheme": "bearer", "description": "A key that `pictograph keys add` made."},
    SESSION: {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "What signing in gives to browsers."},
}

HEADERS: Json = {
    "X-Request-ID": "leads to this request in the server's log; yours, if you sent one",
    "ETag": "of this answer, strong; send it as If-None-Match to be told whether it is still the same",
    "Link": 'the next page, as `rel="next"`; none on the last one',
    "Location": "where what was made is found",
    "Retry-After": "seconds after which to ask again",
    "WWW-Authenticate": "how to say who asks",
}

#: What may go wrong with any operation of a kind: name, status, in words, and the headers that come along.
PROBLEMS: dict[str, tuple[int, str, tuple[str, ...]]] = {
    "BadRequest": (400, "It cannot be understood; `errors` names each wrong part.", ()),
    "Unauthorized": (401, "Nobody is known to ask: there is no key, or it opens nothing.", ("WWW-Authenticate",)),
    "Forbidden": (403, "The key is not made for that.", ()),
    "NotFound": (404, "It is not there, or not for whoever asks.", ()),
    "TooLarge": (413, "The body is too large.", ()),
    "UnsupportedMediaType": (415, f"The body is not {JSON}, or is compressed.", ()),
    "TooManyRequests": (429, "Too many requests in a minute.", ("Retry-After",)),
    "Unavailable": (503, "A service behind this one does not answer, or it is not set up.", ("Retry-After",)),
}
_PROBLEM: Json = {"content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{ProblemOut.__name__}"}}}}
NOT_MODIFIED: Json = {"description": "If-None-Match names the answer; it is still the same."}

#: A value of each parameter that most people would understand.
EXAMPLES: Json = {
    "user": "ann",
    "a": "ann",
    "b": "ben",
    "photo_id": 1,
    "job_id": 1,
    "node": "n02084071",
    "under": "n00015388",
    "name": "crane",
    "idempotency-key": "nightly-2026-10-07",
    "from": "2026-02",
    "to": "2026-03",
    "base": "efficientnet-lite0",
    "head": "efficientnet-lite1",
}


def install(app: FastAPI) -> None:
    """Have the application give the whole document."""
    made = app.openapi

    @cache
    def openapi() -> Json:
        return completed(made())

    app.openapi = openapi  # type: ignore[method-assign]


def completed(document: Json) -> Json:
    """The document that FastAPI makes of the routes, with what holds for all of them."""
    document["info"] |= INFO
    document["tags"] = TAGS
    document["components"] |= {
        "securitySchemes": SCHEMES,
        "headers": {name: {"description": said, "schema": {"type": "string"}} for name, said in HEADERS.items()},
        "responses": {"NotModified": NOT_MODIFIED | _with_headers("ETag", "X-Request-ID"), **dict(_problems())},
    }
    document["components"]["schemas"] |= _schemas(ProblemOut)
    for path, method, operation in _operations(document):
        _complete(operation, path, method)
    return document


def _problems() -> Iterator[tuple[str, Json]]:
    for name, (_, said, headers) in PROBLEMS.items():
        yield name, {"description": said, **_PROBLEM, **_with_headers(*headers, "X-Request-ID")}


def _schemas(model: type[BaseModel]) -> Json:
    """The schemas of a model that no route answers with, and of its parts."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: Json = schema.pop("$defs", {})
    return parts | {model.__name__: schema}


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield path, method, item[method]


def _complete(operation: Json, path: str, method: str) -> None:
    operation["summary"] = _summary(operation["operationId"])
    for parameter in operation.get("parameters", ()):
        _without_null(parameter)
        if parameter["name"] in EXAMPLES:
            parameter["example"] = EXAMPLES[parameter["name"]]
    if operation.get("security"):
        operation["security"] = [{KEY: []}, {SESSION: []}]
    responses = operation["responses"]
    for status, response in responses.items():
        response.update(_with_headers(*_headers(status, method, operation), "X-Request-ID"))
        if status == "default" or int(status) >= 400:
            response.update(_PROBLEM)
    for name in _also(operation, path, method):
        responses.setdefault(str(PROBLEMS[name][0]), {"$ref": f"#/components/responses/{name}"})
    if _cached(method, operation):
        responses["304"] = {"$ref": "#/components/responses/NotModified"}
    operation["responses"] = dict(sorted(responses.items()))


def _summary(operation_id: str) -> str:
    """`get_profile_svg`: Get profile SVG."""
    first, *others = operation_id.split("_")
    return " ".join([first.capitalize(), *(word.upper() if word in FORMATS else word for word in others)])


def _without_null(parameter: Json) -> None:
    """A parameter that may be left out cannot be given as null."""
    schema = parameter["schema"]
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema |= kinds[0]


def _also(operation: Json, path: str, method: str) -> Iterator[str]:
    """The problems that an operation of this kind may have."""
    yield "BadRequest"
    if operation.get("security"):
        yield from ("Unauthorized", "Forbidden", "TooManyRequests", "Unavailable")
    if "{" in path:
        yield "NotFound"
    if method != "get":
        yield from ("TooLarge", "UnsupportedMediaType")


def _cached(method: str, operation: Json) -> bool:
    """Whether answers have an ETag: all but what changes nothing to ask for again, and what never ends."""
    content = operation["responses"].get("200", {}).get("content", {})
    return method == "get" and bool(operation.get("security")) and EVENTS not in content


def _headers(status: str, method: str, operation: Json) -> Iterator[str]:
    """What comes along with an answer of that status, besides the request's id."""
    if status == "200" and _cached(method, operation):
        yield "ETag"
    if status == "200" and any(each["name"] == "page_token" for each in operation.get("parameters", ())):
        yield "Link"
    if status in ("201", "202"):
        yield "Location"
    if status == "202":
        yield "Retry-After"


def _with_headers(*names: str) -> Json:
    return {"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names}}
