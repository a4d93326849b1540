"""Where staff read what is in doubt, what callbacks have said and what receipts wait for, and open and pause lanes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, text

from chassis.http.auth import Principal, require
from chassis.http.fields import CANONICAL, Remark, Time
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem
from mobile_money import lanes, readings, receipts
from mobile_money.domain import Lane, LaneId
from mobile_money.intake import Deciding, take_in
from mobile_money.raw_callbacks import CallbackFate
from mobile_money.receipts import Arrival, Door, ReceiptState

LISTED_MAX = 1_000
READ = ("support", "operator", "treasury", "finance", "approver", "teller")
Staff = Annotated[Principal, Depends(require(*READ))]
Treasury = Annotated[Principal, Depends(require("treasury"))]
Teller = Annotated[Principal, Depends(require("teller"))]
SagaId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
ShortCodePath = Annotated[str, Path(pattern=r"^[0-9]{5,7}$")]
Limit = Annotated[int, Query(ge=1, le=LISTED_MAX)]

IN_DOUBT = text("""
    SELECT requested.saga_id, requested.saga_type, requested.member_id, requested.provider, requested.short_code,
           requested.phone, requested.currency, requested.amount_minor, requested.requested_at AS since, effects.step,
           effects.state, effects.attempt, awaited_steps.queries, awaited_steps.query_at AS next_look_at,
           attempts.sends, attempts.last_sent_at,
           (SELECT max(queried_at) FROM questions WHERE questions.key = attempts.key) AS queried_at
    FROM (
        SELECT saga_id, saga_type, member_id, provider, short_code, phone, currency, amount_minor, requested_at,
               'send_payout' AS step
        FROM payouts WHERE state = 'REQUESTED'
        UNION ALL
        SELECT saga_id, 'collection', member_id, provider, short_code, phone, currency, amount_minor, requested_at,
               'send_prompt'
        FROM prompts WHERE state = 'REQUESTED'
        UNION ALL
        SELECT saga_id, 'return_receipt', NULL, provider, short_code, NULL, currency, amount_minor, requested_at,
               'send_reversal'
        FROM reversals WHERE state = 'REQUESTED'
    ) AS requested
    JOIN effects ON effects.saga_id = requested.saga_id AND effects.step = requested.step
    JOIN awaited_steps ON awaited_steps.saga_id = requested.saga_id AND awaited_steps.step = requested.step
    JOIN attempts ON attempts.saga_id = requested.saga_id AND attempts.step = requested.step
        AND attempts.number = effects.attempt
    WHERE effects.state IN ('STARTED', 'SENT', 'UNSURE', 'PAUSED') AND requested.requested_at <= :before
    ORDER BY requested.requested_at, requested.saga_id
    LIMIT :limit
""")
CALLBACKS = text("""
    SELECT id, name, kind, remote, received_at, fate, reason, saga_id, receipt, matches, decide_at,
           left(encode(body, 'escape'), 4000) AS body
    FROM raw_callbacks
    WHERE (CAST(:fate AS text) IS NULL OR fate = :fate) AND (CAST(:saga_id AS text) IS NULL OR saga_id = :saga_id)
    ORDER BY received_at, id
    LIMIT :limit
""")
QUESTIONS = text("""
    SELECT questions.question_id, questions.kind, questions.queried_at, questions.answered_at, questions.answer
    FROM questions JOIN attempts ON attempts.key = questions.key
    WHERE attempts.saga_id = :saga_id ORDER BY questions.queried_at
""")
ROWS = text("""
    SELECT receipt, account, kind, completed_at, amount_minor, match, reason FROM statement_rows
    WHERE saga_id = :saga_id ORDER BY completed_at
""")
LANES = text("SELECT short_code, name, state, reason, changed_by, since FROM lanes ORDER BY short_code, name")
FLOATS = text("""
    SELECT short_code, utility_minor, working_minor, charges_minor, told_at, members_reserve_minor,
           coalesce((SELECT sum(amount_minor) FROM float_reservations AS reserved
                     WHERE reserved.short_code = floats.short_code AND reserved.state = 'RESERVED'), 0)
               AS reserved_minor
    FROM floats ORDER BY short_code
""")
RESERVE = text("UPDATE floats SET members_reserve_minor = :amount WHERE short_code = :short_code")
RECEIPTS = text("""
    SELECT provider, short_code, receipt, saga_id, generation, state, door, currency, amount_minor, completed_at,
           reference, collection_id, received_at
    FROM receipts
    WHERE (CAST(:state AS text) IS NULL OR state = :state) AND (CAST(:receipt AS text) IS NULL OR receipt = :receipt)
    ORDER BY received_at, receipt
    LIMIT :limit
""")
DOORS = text("""
    SELECT door, source_id, amount_minor, is_same, seen_at FROM receipt_doors
    WHERE provider = :provider AND short_code = :short_code AND receipt = :receipt ORDER BY seen_at
""")
BY_SAGA = text("SELECT * FROM receipts WHERE saga_id = :saga_id FOR UPDATE")


class InDoubt(BaseModel):
    """Money whose outcome is not known: whose, how much, since when, which queries went out, and when the next does."""

    saga_id: str
    saga_type: str
    step: str
    member_id: str | None
    provider: str
    short_code: str
    phone: str | None
    currency: str
    amount_minor: int
    since: datetime
    state: str
    attempt: int
    sends: int
    last_sent_at: datetime | None
    queries: int
    queried_at: datetime | None
    next_look_at: datetime | None


class Listed(BaseModel):
    """Money in doubt, the oldest first."""

    in_doubt: list[InDoubt]


class Change(BaseModel):
    """Why a lane is opened or paused."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["OPEN", "PAUSED"]
    reason: Remark


class Reserve(BaseModel):
    """What no wave of dividends may take of a float."""

    model_config = ConfigDict(extra="forbid")

    members_reserve_minor: int = Field(ge=0, le=10**15)


class Entry(BaseModel):
    """A receipt as a clerk reads it on a member's phone. It credits nothing until the provider confirms it."""

    model_config = ConfigDict(extra="forbid")

    receipt: Annotated[str, CANONICAL, Field(pattern=r"^[A-Z0-9]{6,36}$")]
    amount_minor: int = Field(gt=0, le=10**12, multiple_of=100)
    completed_at: Time
    reference: Annotated[str, CANONICAL, Field(max_length=40)] | None = None


class Rows(BaseModel):
    """Rows as they are stored."""

    rows: list[dict[str, Any]]


def routes(engine: Engine, needed: Deciding, *, clock: Callable[[], datetime]) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["money"])
    _add_reading(router, engine, clock)
    _add_lanes(router, engine, clock)
    _add_receipts(router, engine, needed, clock)
    _add_entering(router, engine, needed, clock)
    return router


def responses_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the problems that a route answers with, besides those of every route."""
    return {each: PROBLEM_RESPONSES[each] for each in (*statuses, 401, 403, 422, 500, 503)}


def _add_reading(router: APIRouter, engine: Engine, clock: Callable[[], datetime]) -> None:
    @router.get("/v1/money/in-doubt", responses=responses_of())
    def list_in_doubt(_staff: Staff, before: Time | None = None, limit: Limit = 200) -> Listed:
        """Return the payouts, prompts and reversals whose outcome is not known, the oldest first."""
        with engine.connect() as tx:
            rows = tx.execute(IN_DOUBT, {"before": before or clock(), "limit": limit}).mappings().all()
        return Listed(in_doubt=[InDoubt(**row) for row in rows])

    @router.get("/v1/money/{saga_id}/evidence", responses=responses_of())
    def list_evidence_of(saga_id: SagaId, _staff: Staff) -> dict[str, list[dict[str, Any]]]:
        """Return the callbacks, questions and statement rows of one saga."""
        with engine.connect() as tx:
            callbacks = tx.execute(CALLBACKS, {"fate": None, "saga_id": saga_id, "limit": LISTED_MAX}).mappings().all()
            questions = tx.execute(QUESTIONS, {"saga_id": saga_id}).mappings().all()
            rows = tx.execute(ROWS, {"saga_id": saga_id}).mappings().all()
        found = {"callbacks": callbacks, "questions": questions, "statement_rows": rows}
        return {name: [dict(row) for row in listed] for name, listed in found.items()}

    @router.get("/v1/money-callbacks", responses=responses_of())
    def list_callbacks(_staff: Staff, fate: CallbackFate = CallbackFate.ORPHAN, limit: Limit = 200) -> Rows:
        """Return callbacks with this fate, the oldest first."""
        with engine.connect() as tx:
            rows = tx.execute(CALLBACKS, {"fate": fate.value, "saga_id": None, "limit": limit}).mappings().all()
        return Rows(rows=[dict(row) for row in rows])

    @router.get("/v1/floats", responses=responses_of())
    def list_floats(_staff: Staff) -> Rows:
        """Return the balances that the providers have shown, and what is reserved of them."""
        with engine.connect() as tx:
            return Rows(rows=[dict(row) for row in tx.execute(FLOATS).mappings()])


def _add_lanes(router: APIRouter, engine: Engine, clock: Callable[[], datetime]) -> None:
    @router.get("/v1/lanes", responses=responses_of())
    def list_lanes(_staff: Staff) -> Rows:
        """Return the lanes that were ever paused."""
        with engine.connect() as tx:
            return Rows(rows=[dict(row) for row in tx.execute(LANES).mappings()])

    @router.post("/v1/lanes/{short_code}/{name}", status_code=204, responses=responses_of(400, 409, 413, 415))
    def change_lane(short_code: ShortCodePath, name: Lane, change: Change, caller: Treasury) -> None:
        """Open or pause a lane. What waits for one that is opened goes on at once."""
        lane = LaneId(short_code=short_code, name=name)
        act = lanes.open_lane if change.state == "OPEN" else lanes.pause
        with engine.begin() as tx:
            is_changed = act(tx, lane, reason=change.reason, by=caller.subject, now=clock())
        if not is_changed:
            raise Problem(status=409, detail=f"The lane {lane} is {change.state} already.")

    @router.post("/v1/floats/{short_code}", status_code=204, responses=responses_of(400, 404, 413, 415))
    def reserve_for_members(short_code: ShortCodePath, reserve: Reserve, _caller: Treasury) -> None:
        """Set what is kept for members: no wave of dividends takes it."""
        values = {"short_code": short_code, "amount": reserve.members_reserve_minor}
        with engine.begin() as tx:
            if not tx.execute(RESERVE, values).rowcount:
                raise Problem(status=404, detail=f"No float of the short code {short_code} is known.")


def _add_receipts(router: APIRouter, engine: Engine, needed: Deciding, clock: Callable[[], datetime]) -> None:
    @router.get("/v1/receipts", responses=responses_of())
    def list_receipts(
        _staff: Staff,
        state: ReceiptState | None = None,
        receipt: Annotated[str | None, Query(pattern=r"^[A-Z0-9]{6,36}$")] = None,
        limit: Limit = 200,
    ) -> Rows:
        """Return receipts by state or number, each with the doors that it came through."""
        values = {"state": None if state is None else state.value, "receipt": receipt, "limit": limit}
        with engine.connect() as tx:
            rows = [dict(row) for row in tx.execute(RECEIPTS, values).mappings()]
            for row in rows if receipt is not None else ():
                row["doors"] = [dict(door) for door in tx.execute(DOORS, row).mappings()]
        return Rows(rows=rows)

    @router.post("/v1/receipts/{saga_id}/reopen", status_code=202, responses=responses_of(404, 409))
    def reopen_receipt(saga_id: SagaId, _caller: Treasury) -> dict[str, str]:
        """Start the saga of a receipt again that was stopped before it was recorded. Its money is here."""
        with engine.begin() as tx:
            row = tx.execute(BY_SAGA, {"saga_id": saga_id}).one_or_none()
            if row is None:
                raise Problem(status=404, detail=f"No receipt has the saga {saga_id}.")
            rows = receipts.reopen(tx, row, needed.codec, now=clock())
        if not rows:
            raise Problem(
                status=409, detail=f"The receipt {row.receipt} is {row.state}; only a FAILED one is reopened."
            )
        return {"saga_id": rows[0].saga_id}


def _add_entering(router: APIRouter, engine: Engine, needed: Deciding, clock: Callable[[], datetime]) -> None:
    @router.post("/v1/receipts/{short_code}", status_code=202, responses=responses_of(400, 404, 409, 413, 415))
    def enter_receipt(short_code: ShortCodePath, entry: Entry, caller: Teller) -> dict[str, str]:
        """Enter a receipt that no door has brought. The provider is queried for it, and only then does it count."""
        try:
            code = needed.short_codes.named(short_code)
        except LookupError as error:
            raise Problem(status=404, detail=str(error)) from error
        arrival = Arrival(
            provider=code.provider,
            short_code=code.short_code,
            receipt=readings.receipt_of(entry.receipt),
            currency=code.currency,
            amount_minor=entry.amount_minor,
            completed_at=entry.completed_at,
            door=Door.CLERK,
            source_id=caller.subject,
            is_confirmed=False,
            reference=entry.reference,
            received_at=clock(),
        )
        with engine.begin() as tx:
            taken = take_in(tx, [arrival], needed.codec, now=clock())
        if taken.known:
            raise Problem(status=409, detail=f"The receipt {entry.receipt} is known already; read it.")
        return {"saga_id": arrival.saga_id}
