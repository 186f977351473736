"""The OpenAPI document: what it promises about every operation, and which operations there are."""

from pathlib import Path
from typing import Any

import pytest

from api.app import create_app
from pipeline.settings import Settings

#: Clients are generated from these: what is listed may be added to, and nothing in it may change or go.
OPERATIONS = Path(__file__).with_name("operations.txt")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings(), None, None, None).openapi()  # type: ignore[arg-type] - none of them is asked


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, each) for path, item in document["paths"].items() for method, each in item.items()]


def resolved(document: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in found:
        _, *steps = found["$ref"].split("/")
        found = document
        for step in steps:
            found = found[step]
    return found


def test_operations_are_those_that_clients_know(document: dict[str, Any]) -> None:
    found = sorted(f"{each['operationId']}: {method.upper()} {path}" for path, method, each in operations(document))
    assert found == OPERATIONS.read_text(encoding="utf-8").splitlines(), f"write it to {OPERATIONS} if it is meant"


def test_each_operation_says_what_it_is_about(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"]}
    for path, method, each in operations(document):
        assert each["operationId"].replace("_", "").isalpha(), path
        assert each["operationId"].islower(), path
        assert each["description"].endswith("."), path
        assert each["summary"], path
        assert set(each["tags"]) <= tags, path
        for parameter in each.get("parameters", ()):
            where = (method, path, parameter["name"])
            assert parameter["description"], where
            assert "null" not in str(parameter["schema"]), where  # it cannot be written in an address


def test_each_operation_says_what_may_come_back(document: dict[str, Any]) -> None:
    for path, method, each in operations(document):
        answers = {status: resolved(document, found) for status, found in each["responses"].items()}
        good = {status for status in answers if status.startswith("2")}
        assert good, path
        for status, answer in answers.items():
            where = (method, path, status)
            assert answer["description"], where
            assert "X-Request-ID" in answer["headers"], where
            content = answer.get("content", {})
            if status in good:
                assert bool(content) == (status != "204"), where
                assert all(found.get("schema") for found in content.values()), where
            elif status != "304":
                schema = content["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ProblemOut"}, where
        if path.startswith("/v1/"):
            assert {"400", "401", "403", "429", "503", "default"} <= answers.keys(), path
            assert ("404" in answers) >= ("{" in path), path
        if "304" in answers:
            assert "ETag" in answers["200"]["headers"], path
        if "202" in answers:
            assert {"Location", "Retry-After"} <= answers["202"]["headers"].keys(), path


def test_lists_say_that_they_go_on(document: dict[str, Any]) -> None:
    paged = [
        (path, each)
        for path, _, each in operations(document)
        if "page_token" in {parameter["name"] for parameter in each.get("parameters", ())}
    ]
    assert len(paged) >= 7
    for path, each in paged:
        answer = each["responses"]["200"]
        assert "Link" in answer["headers"], path
        shape = resolved(document, answer["content"]["application/json"]["schema"])
        assert "next_page_token" in shape["properties"], path
        size = next(each["schema"] for each in each["parameters"] if each["name"] == "page_size")
        assert (size["minimum"], size["maximum"], size["default"]) == (1, 500, 50), path


def test_schemas_have_names_of_their_own_and_say_what_they_are(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert [name for name in schemas if "__" in name] == []  # two classes of one name
    assert [name for name, schema in schemas.items() if not schema.get("description")] == []
