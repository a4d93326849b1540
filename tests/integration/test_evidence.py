"""Evidence and attempts on real PostgreSQL: stored as it came, matched now or later, and what the indexes hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
import httpx
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from fastapi import FastAPI
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from chassis.http import problem
from chassis.http.signatures import check, sign
from chassis.postgres import migrations
from chassis.process import callbacks
from chassis.process.callbacks import CallbackAdapter
from chassis.saga import attempt_rows, chassis_tables, evidence
from chassis.saga.attempt_rows import AwaitedStepRow, LoadedAttempts
from chassis.saga.attempts import Attempt, AttemptState, Outcome
from chassis.saga.deferred import RawMessage
from chassis.saga.evidence import Claim, Fate, Received, Source
from chassis.saga.schema import service_metadata
from chassis.telemetry import table_gauges
from chassis.values import json_text
from chassis.wire.envelope import new_id
from stack import Stack
from support.postgres import scratch_database

AT = datetime(2026, 11, 29, 10, 2, tzinfo=UTC)
SECRET = b"agreed with the bank"
FAILED, PAID = Outcome.REFUSED, Outcome.SUCCEEDED


@pytest.fixture(scope="module")
def engine(infrastructure: Stack) -> Iterator[Engine]:
    with scratch_database(infrastructure) as engine:
        service_metadata(has_awaited_steps=True).create_all(engine)
        yield engine


def attempt(number: int = 1, state: AttemptState = AttemptState.OPEN) -> Attempt:
    return Attempt(number=number, first_sent_at=AT, last_sent_at=AT + timedelta(seconds=3), state=state)


def begin(engine: Engine, saga_id: str, *attempts: Attempt, provider_id: str | None = None, partition: int = 1) -> None:
    """Store a step with these attempts, in one transaction."""
    trigger = RawMessage(
        topic="toy.input", partition=partition, key=saga_id.encode(), value=b"trigger", headers=(("a", b"\xff"),)
    )
    row = AwaitedStepRow(saga_id=saga_id, step="send", trigger=trigger, query_at=AT, queried_since=AT)
    with engine.begin() as tx:
        loaded = attempt_rows.load(tx, [saga_id])
        loaded.put_step(row)
        ids = {} if provider_id is None else {attempts[-1].number: provider_id}
        loaded.put((saga_id, "send"), attempts, provider_ids=ids)
        attempt_rows.save(tx, loaded)


def load(engine: Engine, saga_id: str) -> LoadedAttempts:
    with engine.begin() as tx:
        return attempt_rows.load(tx, [saga_id])


def received(claim: Claim | None, at: datetime = AT) -> Received:
    return Received(
        id=new_id(), provider="bank", source=Source.CALLBACK, received_at=at, headers=[("x-signature", "s")],
        body=b"\x00{raw", claim=claim,
    )  # fmt: skip


def store(engine: Engine, *bodies: Received) -> None:
    with engine.begin() as tx:
        evidence.store(tx, bodies)


def waiting(engine: Engine, partitions: Sequence[int] = (1,)) -> list[str]:
    with engine.begin() as tx:
        return [each.id for each in evidence.waiting(tx, partitions, now=AT + timedelta(days=1), limit=100)]


def handle(engine: Engine, *ids: str) -> None:
    with engine.begin() as tx:
        evidence.handle(tx, [(each, Fate.SETTLED) for each in ids], now=AT)


def test_the_migration_builds_the_tables_that_are_declared(infrastructure: Stack) -> None:
    with scratch_database(infrastructure) as empty:
        with empty.begin() as tx, Operations.context(MigrationContext.configure(tx)):
            chassis_tables.create_1()
            chassis_tables.hold_2()
            chassis_tables.create_awaited_1()
            chassis_tables.details_awaited_2()
            chassis_tables.closing_awaited_3()
        with empty.connect() as connection:
            assert migrations.differences(service_metadata(has_awaited_steps=True), connection) == []


def test_a_step_its_trigger_and_its_attempts_are_read_as_they_were_stored(engine: Engine) -> None:
    saga_id = new_id()
    begin(engine, saga_id, attempt())
    loaded = load(engine, saga_id)
    assert loaded.attempts((saga_id, "send")) == (attempt(),)
    row = loaded.step((saga_id, "send"))
    assert row is not None
    assert (row.trigger.value, row.trigger.headers, row.query_at) == (b"trigger", (("a", b"\xff"),), AT)
    assert loaded.stored((saga_id, "send"), 1).key == f"{saga_id}:send"
    with engine.begin() as tx:
        assert (saga_id, "send") in attempt_rows.due(tx, [1], now=AT, limit=1_000)
        assert (saga_id, "send") not in attempt_rows.due(tx, [2], now=AT, limit=1_000)
        assert (saga_id, "send") not in attempt_rows.due(tx, [1], now=AT - timedelta(seconds=1), limit=1_000)


def test_a_new_attempt_is_stored_with_the_failure_of_the_one_before_and_never_beside_an_open_one(
    engine: Engine,
) -> None:
    saga_id = new_id()
    begin(engine, saga_id, attempt())
    begin(engine, saga_id, attempt(state=AttemptState.FAILED), attempt(2))
    assert load(engine, saga_id).attempts((saga_id, "send")) == (attempt(state=AttemptState.FAILED), attempt(2))
    for live in (AttemptState.OPEN, AttemptState.SUCCEEDED):
        with pytest.raises(IntegrityError, match="attempts_one_live"):
            begin(engine, saga_id, attempt(state=AttemptState.FAILED), attempt(2, live), attempt(3))
    with pytest.raises(IntegrityError, match="attempts_one_live"):
        begin(engine, new_id(), attempt(), attempt(2))


def test_evidence_is_matched_by_our_key_or_by_the_providers_own_id_for_the_owner_of_the_partition(
    engine: Engine,
) -> None:
    first, second = new_id(), new_id()
    begin(engine, first, attempt())
    begin(engine, second, attempt(), provider_id="bank:77", partition=2)
    by_key = received(Claim(outcome=PAID, key=f"{first}:send", reference="receipt 8"))
    by_id = received(Claim(outcome=FAILED, provider_id="bank:77"))
    store(engine, by_key, by_id)
    assert waiting(engine) == [by_key.id]
    assert waiting(engine, [2]) == [by_id.id]
    with engine.begin() as tx:
        (found,) = evidence.lock(tx, [by_key.id])
    assert (found.saga_id, found.step, found.number, found.outcome) == (first, "send", 1, PAID)
    assert (found.source, found.reference) == (Source.CALLBACK, "receipt 8")
    handle(engine, by_key.id, by_id.id)
    assert waiting(engine, [1, 2]) == []
    with engine.begin() as tx:
        assert evidence.lock(tx, [by_key.id]) == [], "it is decided about once"


def test_another_key_is_never_taken_for_the_providers_id(engine: Engine) -> None:
    saga_id = new_id()
    begin(engine, saga_id, attempt(), provider_id="bank:78")
    store(engine, received(Claim(outcome=PAID, key=f"{new_id()}:send", provider_id="bank:78")))
    assert waiting(engine) == []


def test_our_key_with_another_attempts_provider_id_is_an_orphan(engine: Engine) -> None:
    saga_id = new_id()
    begin(engine, saga_id, attempt(), provider_id="bank:81")
    wrong = received(Claim(outcome=PAID, key=f"{saga_id}:send", provider_id="bank:82"))
    right = received(Claim(outcome=PAID, key=f"{saga_id}:send", provider_id="bank:81"))
    store(engine, wrong, right)
    assert waiting(engine) == [right.id]
    with engine.begin() as tx:
        (orphan,) = [each for each in evidence.orphans(tx, now=AT + timedelta(hours=1)) if each.id == wrong.id]
        assert evidence.match(tx, [(orphan, orphan.claim)], now=AT) == 0
        assert tx.execute(text("SELECT fate FROM evidence WHERE id = :id"), {"id": wrong.id}).scalar_one() is None
    handle(engine, right.id)


def test_what_matches_nothing_is_an_orphan_until_its_attempt_is_known(engine: Engine) -> None:
    saga_id = new_id()
    early, unread = received(Claim(outcome=PAID, provider_id="bank:99")), received(None)
    store(engine, early, unread)
    with engine.begin() as tx:
        assert evidence.orphans(tx, now=AT) == [], "they are not matched again at once"
    begin(engine, saga_id, attempt(), provider_id="bank:99")
    later = AT + timedelta(minutes=1)
    with engine.begin() as tx:
        found = {each.id: each for each in evidence.orphans(tx, now=later)}
        assert {early.id, unread.id} <= found.keys()
        orphan = found[unread.id]
        assert (orphan.body, orphan.headers, orphan.claim) == (b"\x00{raw", [("x-signature", "s")], None)
        pairs = [(each, each.claim) for each in found.values()]
        assert evidence.match(tx, pairs, now=later) == 1
    assert waiting(engine) == [early.id]
    with engine.begin() as tx:
        assert unread.id not in {each.id for each in evidence.orphans(tx, now=later + timedelta(seconds=29))}
        again = [each for each in evidence.orphans(tx, now=later + timedelta(hours=1)) if each.id == unread.id]
        assert [each.matches for each in again] == [1]
        read_now = Claim(outcome=PAID, key=f"{saga_id}:send")
        assert evidence.match(tx, [(replace(again[0]), read_now)], now=later) == 1
    assert set(waiting(engine)) == {early.id, unread.id}
    handle(engine, early.id, unread.id)


class Bank:
    """A provider whose callbacks are a key and an outcome."""

    provider = "bank"
    headers_kept = ("x-signed-at",)

    def authenticate(self, headers: Sequence[tuple[str, str]], body: bytes, now: datetime) -> None:
        given = dict(headers)
        check([SECRET], body, stamp=given.get("x-signed-at", ""), signature=given.get("x-signature", ""), now=now)

    def read(self, headers: Sequence[tuple[str, str]], body: bytes) -> Claim | None:
        key, outcome = body.decode().split(" ")
        return Claim(key=key, outcome=Outcome(outcome))


async def call(engine: Engine, body: bytes, secret: bytes = SECRET, bank: CallbackAdapter | None = None) -> int:
    """Send a callback to the inbox, and return the status of its answer."""
    app = FastAPI()
    problem.install(app)
    app.include_router(
        callbacks.router(bank or Bank(), engine, callbacks.stored_at_once(), clock=lambda: AT, new_id=new_id)
    )
    signed = {"x-signed-at": str(int(AT.timestamp())), "x-signature": sign(secret, body, AT), "cookie": "secret"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://toy") as client:
        answer = await client.post("/v1/callbacks/bank", content=body, headers=signed)
    return answer.status_code


def test_a_callback_is_stored_as_it_came_before_it_is_answered(engine: Engine) -> None:
    saga_id = new_id()
    begin(engine, saga_id, attempt())
    assert anyio.run(call, engine, f"{saga_id}:send SUCCEEDED".encode()) == 204
    (evidence_id,) = waiting(engine)
    with engine.begin() as tx:
        body, headers = tx.execute(text("SELECT body, headers FROM evidence WHERE id = :id"), {"id": evidence_id}).one()
    assert bytes(body) == f"{saga_id}:send SUCCEEDED".encode()
    assert "x-signed-at" in headers
    assert "secret" not in headers, "no header is kept that its adapter does not name"
    handle(engine, evidence_id)


def test_a_callback_that_another_signed_is_refused_and_not_stored(engine: Engine) -> None:
    saga_id = new_id()
    begin(engine, saga_id, attempt())
    assert anyio.run(call, engine, f"{saga_id}:send SUCCEEDED".encode(), b"another") == 401
    assert waiting(engine) == []


def test_a_callback_that_cannot_be_read_is_kept_and_read_again(engine: Engine) -> None:
    assert anyio.run(call, engine, b"of a form that no release knows") == 204
    with engine.begin() as tx:
        assert callbacks.match_orphans(tx, [Bank()], now=AT + timedelta(days=1)) == 0
        kept = "SELECT matches FROM evidence WHERE body = 'of a form that no release knows'"
        assert tx.execute(text(kept)).scalars().all() == [1]


def test_the_gauges_show_how_many_orphans_there_are_and_how_old_the_oldest_is(infrastructure: Stack) -> None:
    with scratch_database(infrastructure) as empty:
        service_metadata(has_awaited_steps=True).create_all(empty)

        def measured() -> list[float]:
            with empty.begin() as tx:
                return [float(value) for each in table_gauges.EVIDENCE for (value,) in each.query(tx)]

        assert measured() == [0, 0]
        saga_id, now = new_id(), datetime.now(UTC)
        begin(empty, saga_id, attempt())
        matched = received(Claim(outcome=PAID, key=f"{saga_id}:send"), at=now - timedelta(days=9))
        unmatched = received(Claim(outcome=PAID, key="another's"), at=now - timedelta(days=2))
        store(empty, matched, unmatched, received(None, at=now - timedelta(days=1)))
        count, age_s = measured()
        assert count == 2
        assert timedelta(days=2) <= timedelta(seconds=age_s) < timedelta(days=3)


class JsonBank(Bank):
    """A provider whose callbacks are the fields of a claim."""

    def read(self, headers: Sequence[tuple[str, str]], body: bytes) -> Claim | None:
        return Claim(outcome=PAID, **json_text.parse(body))


@pytest.mark.parametrize("name", ["key", "provider_id", "reference", "detail"])
@pytest.mark.parametrize("character", ["\\u0000", "\\ud800"])
def test_a_callback_with_a_text_that_postgresql_cannot_hold_is_kept_as_it_came(
    engine: Engine, name: str, character: str
) -> None:
    body = b'{"%s":"%s %s"}' % (name.encode(), new_id().encode(), character.encode())
    assert anyio.run(call, engine, body, SECRET, JsonBank()) == 204
    with engine.begin() as tx:
        assert callbacks.match_orphans(tx, [JsonBank()], now=AT + timedelta(days=1)) == 0
        query = text("SELECT outcome, key, provider_id, reference, detail, matches FROM evidence WHERE body = :body")
        assert tx.execute(query, {"body": body}).one() == (None, None, None, None, None, 1)


def test_a_body_that_is_stored_again_is_stored_once(engine: Engine) -> None:
    saga_id = new_id()
    begin(engine, saga_id, attempt())
    body = received(Claim(outcome=PAID, key=f"{saga_id}:send"))
    store(engine, body)
    store(engine, body)
    assert waiting(engine) == [body.id]
    handle(engine, body.id)
    store(engine, body)
    assert waiting(engine) == []
