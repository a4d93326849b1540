"""The responses of every API where neither the caller nor an endpoint is at fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy import create_engine
from starlette.testclient import TestClient

from chassis.http import problem
from chassis.http.problem import MEDIA_TYPE

NOWHERE = create_engine("postgresql+psycopg://unknown@127.0.0.1:1/none", connect_args={"connect_timeout": 2})


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()
    problem.install(app)

    @app.get("/rows/{row_id}")
    def read_row(row_id: str) -> str:
        with NOWHERE.connect():
            return row_id

    @app.get("/names")
    def read_names() -> str:
        return "found"

    router = APIRouter(prefix="/included")

    @router.get("/{name}")
    def read_included(name: str) -> str:
        return name

    @router.post("/moves")
    def move() -> None: ...

    @router.put("/moves")
    def set_moves() -> None: ...

    app.include_router(router)
    with TestClient(app) as client:
        yield client


def test_without_its_database_an_api_responds_with_the_time_to_retry(client: TestClient) -> None:
    answer = client.get("/rows/1")
    assert (answer.status_code, answer.headers["content-type"]) == (503, MEDIA_TYPE)
    assert int(answer.headers["retry-after"]) == problem.RETRY_AFTER_S


def test_a_path_that_ends_with_a_line_feed_is_another_path(client: TestClient) -> None:
    assert client.get("/names").status_code == 200
    answer = client.get("/names%0A")
    assert (answer.status_code, answer.headers["content-type"]) == (404, MEDIA_TYPE)


@pytest.mark.parametrize(
    ("path", "methods"), [("/names", "GET"), ("/included/x", "GET"), ("/included/moves", "POST, PUT")]
)
def test_a_method_that_a_path_has_not_is_answered_with_those_it_has(
    client: TestClient, path: str, methods: str
) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, methods)
    assert f"use {methods}." in answer.json()["detail"]
