"""Callbacks that come at the same time share a transaction, and none harms another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import anyio
import pytest
from sqlalchemy import Connection, Engine, event, text

from chassis.http.problem import Problem
from chassis.process.callback_inbox import CallbackInbox
from chassis.process.callbacks import Callback
from chassis.saga.evidence import Claim, Received
from chassis.saga.schema import service_metadata
from chassis.wire.envelope import new_id
from stack import Stack
from support.postgres import scratch_database

AT = datetime(2026, 11, 30, 5, 40, tzinfo=UTC)
COUNT = 50


class Bank:
    provider = "bank"
    headers_kept = ()

    def authenticate(self, headers: Sequence[tuple[str, str]], body: bytes, now: datetime) -> None:
        """Everything is admitted."""

    def read(self, headers: Sequence[tuple[str, str]], body: bytes) -> Claim | None:
        return None


class Gateway(Bank):
    """Its bodies are numbers of items; the database refuses to keep one, and another has no form at all."""

    def items(self, body: bytes) -> int:
        return int(body.split()[-1])

    def keep(self, tx: Connection, received: Received) -> bool:
        if received.body.startswith(b"broken"):
            tx.execute(text("SELECT 1 / 0"))
        return True


@pytest.fixture
def engine(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        service_metadata(has_awaited_steps=True).create_all(engine)
        yield engine


def put(engine: Engine, callbacks: Sequence[Callback]) -> list[BaseException | None]:
    """Put callbacks into an inbox, all before it begins; return what each got."""

    async def together() -> list[BaseException | None]:
        inbox = CallbackInbox(engine)
        waiting = [asyncio.ensure_future(inbox.put(each)) for each in callbacks]
        await asyncio.sleep(0)  # lets each of them wait
        inbox.start()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        inbox.stop()
        return found

    return anyio.run(together)


def callback(body: str, bank: Bank) -> Callback:
    return Callback(adapter=bank, headers=[], body=body.encode(), at=AT, new_id=new_id)


def stored(engine: Engine) -> dict[str, int]:
    with engine.connect() as tx:
        query = text("SELECT convert_from(body, 'UTF8'), count(*) FROM evidence GROUP BY 1")
        return {row[0]: row[1] for row in tx.execute(query)}


def test_callbacks_that_come_together_share_one_transaction(engine: Engine) -> None:
    commits: list[Connection] = []
    event.listen(engine, "commit", commits.append)
    assert put(engine, [callback(f"{number}", Bank()) for number in range(COUNT)]) == [None] * COUNT
    assert len(commits) == 1
    assert stored(engine) == {f"{number}": 1 for number in range(COUNT)}


@pytest.mark.parametrize(("body", "error"), [("no form", Problem), ("broken 1", Exception)])
def test_one_that_cannot_be_stored_harms_no_other(engine: Engine, body: str, error: type[Exception]) -> None:
    good = [callback(f"body {number} 2", Gateway()) for number in range(4)]
    found = put(engine, [*good[:2], callback(body, Gateway()), *good[2:]])
    assert [each is None for each in found] == [True, True, False, True, True]
    assert isinstance(found[2], error)
    assert stored(engine) == {f"body {number} 2": 2 for number in range(4)}


def test_a_callback_that_comes_while_the_inbox_ends_is_stored(engine: Engine) -> None:
    async def ending() -> None:
        inbox = CallbackInbox(engine)
        inbox.start()
        waiting = asyncio.ensure_future(inbox.put(callback("the last", Bank())))
        await asyncio.sleep(0)
        await asyncio.to_thread(inbox.stop)
        await waiting

    anyio.run(ending)
    assert stored(engine) == {"the last": 1}
