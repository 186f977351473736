import pytest
from api_helpers import ClientAs, Library
from fastapi.testclient import TestClient


def test_smoke(people: Library, client: TestClient) -> None:
    p = people.add("ada", "pug")
    q = people.add("ada", "pug", certain=0.3, day=2)
    for a in (f"/v1/photos/{p}", f"/v1/photos/{p}/tags", f"/v1/photos/{q}/tags?include=ancestors,leaves", f"/v1/photos/{p}/tags/n02084071/explanation", "/v1/review", f"/v1/photos/{p}/verdicts", f"/v1/photos/{p}/tags?min_precision=0.9"):
        r = client.get(a)
        print(a, r.status_code, r.text[:1500])
    r = client.post(f"/v1/photos/{p}/verdicts", json={"node": "n02084071", "verdict": "generalise"})
    print(r.status_code, r.text)
    r = client.get(f"/v1/photos/{p}/tags?include=ancestors")
    print(r.status_code, r.text)
    raise AssertionError
