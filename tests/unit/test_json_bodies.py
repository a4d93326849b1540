"""What a service accepts as a body: one JSON text in which every member has one value, without a content coding."""

from __future__ import annotations

import ast
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from fastapi import APIRouter, FastAPI, Request
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from starlette.testclient import TestClient

from chassis.http import problem
from chassis.http.json_body import JsonRoute
from chassis.http.problem import MEDIA_TYPE
from chassis.values.json_text import JsonFlaw, check_texts, parse

ROOT = Path(__file__).parents[2]
JSON = {"Content-Type": "application/json"}


class Line(BaseModel):
    """A body with a number."""

    quantity: Annotated[int, Field(strict=True)]


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    problem.install(app)
    router = APIRouter(route_class=JsonRoute)

    @router.post("/lines")
    def add_line(line: Line) -> int:
        return line.quantity

    @router.get("/lines")
    def list_lines(limit: int = 50, after: str = "") -> str:
        return f"{limit} {after}"

    @router.post("/raw")
    async def add_raw(request: Request) -> int:
        return len(await request.body())

    app.include_router(router)
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize(
    "body",
    [
        b'{"quantity": 1, "quantity": 7}',
        b'{"quantity": 1, "quantity": 1}',
        b'{"quantity": 1, "\\u0071uantity": 7}',
        b'{"quantity": 1, "deep": [{"quantity": 1, "quantity": 7}]}',
    ],
    ids=["two values", "the same value", "escaped", "deep"],
)
def test_a_member_that_is_given_twice_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/lines", content=body, headers=JSON)
    assert (answer.status_code, answer.headers["content-type"]) == (400, MEDIA_TYPE)
    assert '"quantity" is given twice' in answer.json()["detail"]


@pytest.mark.parametrize("name", ["Idempotency-Key", "idempotency-key", "Authorization", "If-Match"])
def test_a_header_with_two_values_is_refused_and_named(client: TestClient, name: str) -> None:
    twice = [("Content-Type", "application/json"), (name, "a"), (name.upper(), "b")]
    answer = client.post("/lines", content=b'{"quantity": 1}', headers=twice)
    assert (answer.status_code, answer.headers["content-type"]) == (400, MEDIA_TYPE)
    assert f"the header {name} is given twice".lower() in answer.json()["detail"].lower()
    assert client.post("/lines", content=b'{"quantity": 1}', headers=[*twice[:2], twice[1]]).status_code == 200


@pytest.mark.parametrize(
    ("query", "pointer", "detail"),
    [
        ("limit=5&limit=7", "query:limit", "Given twice; send one."),
        ("limit=5&limit=5", "query:limit", "Given twice; send one."),
        ("Limit=5", "query:Limit", "Not a parameter of this request; remove it."),
        ("after=a&untill=b", "query:untill", "Not a parameter of this request; remove it."),
    ],
)
def test_a_parameter_that_is_given_twice_or_is_none_of_the_request_is_refused(
    client: TestClient, query: str, pointer: str, detail: str
) -> None:
    answer = client.get(f"/lines?{query}")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"pointer": pointer, "detail": detail}]
    assert client.get("/lines?limit=5&after=a").json() == "5 a"


def test_a_member_with_a_name_that_is_not_ours_is_not_repeated(client: TestClient) -> None:
    answer = client.post("/lines", content=b'{"Ann Doe": 1, "Ann Doe": 2}', headers=JSON)
    assert answer.status_code == 400
    assert "Ann" not in answer.text
    assert "given twice" in answer.json()["detail"]


def test_a_number_of_thousands_of_digits_is_refused_as_such(client: TestClient) -> None:
    answer = client.post("/lines", content=b'{"quantity": ' + b"9" * 5000 + b"}", headers=JSON)
    assert answer.status_code == 400
    assert "digits" in answer.json()["detail"]


def test_a_flaw_of_syntax_has_its_position(client: TestClient) -> None:
    answer = client.post("/lines", content=b'{"quantity": 1,}', headers=JSON)
    assert answer.status_code == 400
    assert "at character" in answer.json()["detail"]


def test_a_byte_order_mark_is_skipped(client: TestClient) -> None:
    assert client.post("/lines", content=b'\xef\xbb\xbf{"quantity": 3}', headers=JSON).json() == 3


@pytest.mark.parametrize("path", ["/lines", "/raw"])
@pytest.mark.parametrize("announced", ["gzip", "br", "gzip, identity"])
def test_an_announced_content_coding_is_refused(client: TestClient, path: str, announced: str) -> None:
    headers = JSON | {"Content-Encoding": announced}
    answer = client.post(path, content=gzip.compress(b'{"quantity": 3}'), headers=headers)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")
    assert answer.headers["content-type"] == MEDIA_TYPE


@pytest.mark.parametrize("path", ["/lines", "/raw"])
@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_a_compressed_body_that_is_not_announced_is_refused(client: TestClient, path: str, compress: object) -> None:
    assert callable(compress)
    answer = client.post(path, content=compress(b'{"quantity": 3}'), headers=JSON)
    assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "identity")


def test_the_coding_identity_is_accepted(client: TestClient) -> None:
    headers = JSON | {"Content-Encoding": "identity"}
    assert client.post("/lines", content=b'{"quantity": 3}', headers=headers).json() == 3


def test_the_parser_returns_what_json_means() -> None:
    assert parse(b'{"a": [1, 2.5, true, null, "\xc3\xa9"], "b": {"a": 1}}') == {
        "a": [1, 2.5, True, None, "é"],
        "b": {"a": 1},
    }
    with pytest.raises(JsonFlaw, match="given twice"):
        parse('[{"a": 1, "a": 1}]')


@pytest.mark.parametrize("character", ["\\u0000", "\\ud800", "\\udfff"])
@pytest.mark.parametrize("body", ['"{}"', '["a", "b {}"]', '{{"a": [{{"b": "{}"}}]}}', '{{"{}": 1}}'])
def test_a_text_that_no_database_holds_is_refused_wherever_it_stands(body: str, character: str) -> None:
    check_texts(parse(body.format("\\u0001 \\ud83d\\ude00 é")))
    with pytest.raises(JsonFlaw, match="no database of ours holds it"):
        check_texts(parse(body.format(character)))


NAMES = st.sampled_from(["a", "b", "é", "a\\u0062", "\\u0061"])
VALUES = st.recursive(
    st.sampled_from(["1", "2.5", "true", "null", '"a:b"', '"\\"a\\":1"', "99999999999999999999", "1e5"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda values: f"[{','.join(values)}]")
        | st.lists(st.tuples(NAMES, inner), max_size=3).map(
            lambda pairs: "{" + ", ".join(f'"{name}" : {value}' for name, value in pairs) + "}"
        )
    ),
    max_leaves=8,
)


@given(VALUES)
def test_a_text_has_one_meaning_or_is_refused(text: str) -> None:
    """The fast parser and the one that names what is wrong must agree on every text."""
    doubles: list[str] = []

    def members(pairs: list[tuple[str, object]]) -> dict[str, object]:
        doubles.extend(name for name, _ in pairs if [each for each, _ in pairs].count(name) > 1)
        return dict(pairs)

    meaning = json.loads(text, object_pairs_hook=members)
    if doubles:
        with pytest.raises(JsonFlaw, match="given twice"):
            parse(text.encode())
    else:
        assert parse(text.encode()) == parse(text) == meaning


def test_every_router_of_a_service_parses_bodies_alike() -> None:
    routers = [
        (path.relative_to(ROOT), call)
        for folder in ("services", "chassis/chassis/http")
        for path in (ROOT / folder).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "APIRouter"
    ]
    assert len(routers) > 5
    assert [path for path, call in routers if not any(word.arg == "route_class" for word in call.keywords)] == []
