"""How bodies are read: within the process's budget, and a long one on another thread with the same result."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, FastAPI, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient
from starlette.types import Message, Scope

from chassis.http import problem
from chassis.http.bodies import BodyLimit
from chassis.http.json_body import DETAILS_MAX, INLINE_BYTES_MAX, JsonRoute
from chassis.values.json_text import ITEMS_MAX, MEMBERS_MAX

JSON = {"Content-Type": "application/json"}
LIMIT_BYTES = 4_000_000
threads: list[int] = []


def _note_thread(value: int) -> int:
    threads.append(threading.get_ident())
    return value


class Line(BaseModel):
    """An item of a body, which knows where it was validated."""

    model_config = ConfigDict(extra="forbid")

    quantity: Annotated[int, Field(strict=True), AfterValidator(_note_thread)]
    note: str = ""


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    problem.install(app, body_bytes_max=LIMIT_BYTES)
    router = APIRouter(route_class=JsonRoute)

    @router.put("/lines")
    async def put_lines(lines: Annotated[list[Line], Field(max_length=100)]) -> list[int]:
        return [threading.get_ident(), *(line.quantity for line in lines)]

    @router.put("/many")
    async def put_many(lines: list[Line]) -> int:
        return len(lines)

    app.include_router(router)
    with TestClient(app) as client:
        yield client


def padded(items: list[dict[str, Any]], length: int) -> str:
    """Return the items as JSON of at least that length."""
    text = json.dumps(items)
    return text + " " * (length - len(text))


def test_a_long_body_is_validated_on_another_thread_and_has_the_same_result(client: TestClient) -> None:
    items = [{"quantity": number} for number in range(3)]
    for length, is_elsewhere in ((0, False), (INLINE_BYTES_MAX + 1, True)):
        threads.clear()
        loop_thread, *quantities = client.put("/lines", content=padded(items, length), headers=JSON).json()
        assert quantities == [0, 1, 2]
        assert (loop_thread not in threads) == is_elsewhere


@pytest.mark.parametrize(
    "items",
    [
        [{"quantity": "7"}, {"quantity": 1, "more": 1}],
        [{"quantity": 1}] * 101,
        [{"quantity": 1, **{f"m{number}": 1 for number in range(30)}}] * 2,
        {"quantity": 1},
        None,
    ],
    ids=["fields", "too many items", "more errors than are shown", "no list", "null"],
)
def test_a_long_body_is_refused_as_a_short_one_is(client: TestClient, items: Any) -> None:
    short, long = (
        client.put("/lines", content=padded(items, length), headers=JSON) for length in (0, INLINE_BYTES_MAX + 1)
    )
    assert short.status_code == 422
    assert (long.status_code, long.json()) == (short.status_code, short.json())


def test_a_long_body_that_is_no_json_is_refused_as_a_short_one_is(client: TestClient) -> None:
    for text in ("[1,]", '[{"a":1,"a":1}]', "[" * 500_000, "\x00"):
        padding = " " * INLINE_BYTES_MAX
        assert client.put("/lines", content=text + padding, headers=JSON).status_code == 400


def test_more_errors_than_can_be_described_are_counted(client: TestClient) -> None:
    members = {f"m{number}": 1 for number in range(30)}
    answer = client.put("/many", content=json.dumps([{"quantity": 1, **members}] * (DETAILS_MAX // 20)), headers=JSON)
    assert answer.status_code == 422
    assert "values are not valid, too many to name them" in answer.json()["detail"]


@pytest.mark.parametrize(
    "value", [[1] * (ITEMS_MAX + 1), [{f"m{number}": 1 for number in range(MEMBERS_MAX + 1)}] * 200]
)
def test_a_list_or_an_object_of_too_many_entries_is_refused_before_it_is_validated(
    client: TestClient, value: Any
) -> None:
    answer = client.put("/many", content=json.dumps(value), headers=JSON)
    assert answer.status_code == 400
    assert "no request has more than" in answer.json()["detail"]


def scope_of(*headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "path": "/lines", "headers": headers}


async def _nothing(_message: Message) -> None:
    pass


def test_bodies_beyond_the_budget_get_503_until_others_are_done() -> None:
    async def hold() -> None:
        both_read, done = asyncio.Event(), asyncio.Event()
        read: list[int] = []

        async def app(_scope: Scope, receive: Any, _send: Any) -> None:
            read.append(len((await receive())["body"]))
            if len(read) == 2:
                both_read.set()
            await done.wait()

        async def body() -> Message:
            return {"type": "http.request", "body": b"x" * 40, "more_body": False}

        limited = BodyLimit(app, body_bytes_max=100_000, body_bytes_max_of={}, held_bytes_max=100)
        declared, chunked = scope_of((b"content-length", b"70000")), scope_of((b"transfer-encoding", b"chunked"))
        short = scope_of((b"content-length", b"40"))
        held = [asyncio.create_task(limited(scope, body, _nothing)) for scope in (declared, chunked)]
        await both_read.wait()
        for scope in (declared, chunked):
            with pytest.raises(HTTPException) as refused:
                await limited(scope, body, _nothing)
            assert refused.value.status_code == 503
            assert refused.value.headers is not None
            assert refused.value.headers["Retry-After"] == "1"
        done.set()
        await limited(short, body, _nothing)
        await asyncio.gather(*held)
        await limited(declared, body, _nothing)
        assert read == [40, 40, 40, 40]

    asyncio.run(hold())


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_over_the_limit_is_refused(client: TestClient, declared: bool) -> None:
    content = b"[" + b" " * LIMIT_BYTES + b"]"
    sent = content if declared else iter([content[:1000], content[1000:]])
    answer = client.put("/lines", content=sent, headers=JSON)
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")


def test_a_request_whose_body_is_never_read_takes_nothing() -> None:
    async def ignore() -> None:
        async def app(_scope: Scope, _receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 401, "headers": []})

        async def body() -> Message:
            raise AssertionError("nothing is read")

        limited = BodyLimit(app, body_bytes_max=60, body_bytes_max_of={}, held_bytes_max=0)
        await limited(scope_of((b"content-length", b"1000000")), body, _nothing)

    asyncio.run(ignore())


def test_a_raw_endpoint_is_limited_as_well() -> None:
    app = FastAPI()
    problem.install(app, body_bytes_max=10)

    @app.post("/raw")
    async def raw(request: Request) -> int:
        return len(await request.body())

    with TestClient(app) as client:
        assert client.post("/raw", content=b"x" * 10).json() == 10
        assert client.post("/raw", content=b"x" * 11).status_code == 413
