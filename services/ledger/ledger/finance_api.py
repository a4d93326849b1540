"""What finance reads over HTTP: accounts, balances at any time, statements, trial balances, transfers. Nothing writes.

Amounts are decimal texts: their sums have more digits than a JSON number keeps in many clients.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import Connection, Engine

from chassis.http.auth import Principal, require
from chassis.http.fields import Day, Time
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, FieldError, Problem, invalid
from chassis.wire.envelope import TIME_MAX, TIME_MIN
from ledger.model.accounts import AccountKind
from ledger.model.charts import CHARTS, LANES
from ledger.model.paging import PAGE_MAX
from ledger.store import reading, trial_balances
from ledger.store.reading import Position

POSITION = struct.Struct(">HqqH")
"""A lane and its last entry that was shown: microseconds since 1970, the transfer's id, the ordinal."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
CURSOR_LENGTH_MAX = -(-LANES * POSITION.size * 4 // 3)
ID_MAX = 2**63 - 1
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: PROBLEM_RESPONSES[status] for status in (400, 401, 403, 422, 500, 503)
}
FINDING = RESPONSES | {404: PROBLEM_RESPONSES[404]}


def _in_range(at: datetime) -> datetime:
    """Return the time. Raises ValueError where it is too near to the ends of the calendar to be reckoned with."""
    if not TIME_MIN <= at <= TIME_MAX:
        raise ValueError(f"Not between {TIME_MIN:%Y} and {TIME_MAX:%Y}")
    return at


Finance = Annotated[Principal, Depends(require("finance"))]
Amount = Annotated[str, Field(description="Minor units, as a decimal text.")]
AccountPath = Annotated[
    str,
    Path(
        max_length=256, pattern=r"^[A-Za-z0-9_.:-]+$", description="chart:code:currency, or chart:code:owner:currency."
    ),
]
Reference = Annotated[str, Path(max_length=256, pattern=r"^[!-~]+$")]
Cursor = Annotated[str | None, Query(max_length=CURSOR_LENGTH_MAX, pattern=r"^[0-9A-Za-z_-]+$")]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
Instant = Annotated[Time, AfterValidator(_in_range)]
ChartName = Literal["shop", "merchants", "merchants_test", "sacco"]


class AccountAnswer(BaseModel):
    """An account, with what its chart says about it. ``floor`` null: it may go below zero."""

    account: str
    chart: str
    code: str
    owner: str | None
    kind: AccountKind
    currency: str
    is_closed: bool
    floor: Amount | None
    ceiling: Amount | None
    opened_at: datetime


class AccountPage(BaseModel):
    """A page of accounts; request the next one with ``cursor=next_cursor``."""

    accounts: list[AccountAnswer]
    next_cursor: str | None


class BalanceAnswer(BaseModel):
    """A balance. ``posted`` is on the account's own side; what is held, and so ``available``, is known for now only.

    ``at`` null: as booked now. By the value date, it is the time in the request, or that of the answer.
    A balance at a booked time of the last seconds may still change: bookings under way have earlier times. It is
    ``is_final`` once none can be. One at an effective time never is: a later booking may have that value date.
    """

    account: str
    currency: str
    at: datetime | None
    by: Literal["booked", "effective"]
    is_final: bool
    debits: Amount
    credits: Amount
    posted: Amount
    held_debits: Amount | None
    held_credits: Amount | None
    available: Amount | None


class EntryLine(BaseModel):
    """One line of a statement; a debit is positive. ``saga_id`` leads to the timeline."""

    reference: str
    kind: str
    ordinal: int
    amount: Amount
    is_hold: bool
    booked_at: datetime
    effective_at: datetime
    is_late: bool
    saga_id: str | None
    step: str | None
    message_id: str | None


class EntryPage(BaseModel):
    """A page of a statement in the order of booking; request the next one with ``cursor=next_cursor``.

    A booking that was under way when an earlier page was read comes on a later one, so that none is left out.
    """

    account: str
    currency: str
    entries: list[EntryLine]
    next_cursor: str | None


class TrialLineAnswer(BaseModel):
    """The totals of all accounts of one code in one currency."""

    code: str
    currency: str
    debits: Amount
    credits: Amount


class LateTransfer(BaseModel):
    """A transfer whose value date is in or before a day, and that was booked after the day was closed."""

    reference: str
    booked_at: datetime
    effective_at: datetime
    saga_id: str | None


class TrialBalance(BaseModel):
    """The totals at the end of a day: ``lines`` are ``at_close`` and what was booked later with an earlier value date.

    ``closed_at`` null: the day is open, and ``lines`` are all there is. ``late`` has up to 1,000 of ``late_count``.
    """

    chart: str
    day: date
    zone: str
    closed_at: datetime | None
    lines: list[TrialLineAnswer]
    at_close: list[TrialLineAnswer]
    late: list[LateTransfer]
    late_count: int


class TransferEntry(BaseModel):
    """One side of a transfer; a debit is positive."""

    account: str
    amount: Amount
    currency: str
    is_hold: bool


class TransferAnswer(BaseModel):
    """A transfer. ``of`` is what it resolves or corrects, ``resolved_by`` what posted or voided this hold."""

    reference: str
    kind: str
    of: str | None
    resolved_by: str | None
    booked_at: datetime
    effective_at: datetime
    expires_at: datetime | None
    exchange_rate: str | None
    is_late: bool
    saga_id: str | None
    step: str | None
    message_id: str | None
    entries: list[TransferEntry]


def routes(engine: Engine, clock: Callable[[], datetime]) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["finance"])
    _add_accounts(router, engine)
    _add_statements(router, engine, clock)
    _add_books(router, engine)
    return router


def _add_accounts(router: APIRouter, engine: Engine) -> None:
    @router.get("/v1/accounts", responses=RESPONSES)
    def list_accounts(
        _caller: Finance,
        chart: ChartName | None = None,
        owner: Annotated[str | None, Query(max_length=128, pattern=r"^[A-Za-z0-9_.:-]+$")] = None,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> AccountPage:
        """Return accounts in the order in which they were opened."""
        after = 0 if cursor is None else _account_cursor(cursor)
        with _reading(engine) as tx:
            found = reading.list_accounts(chart=chart, owner=owner, after=after, count=limit + 1, tx=tx)
        shown = found[:limit]
        return AccountPage(
            accounts=[_account(row) for row in shown],
            next_cursor=str(shown[-1].id) if len(found) > limit else None,
        )

    @router.get("/v1/accounts/{account}", responses=FINDING)
    def get_account(account: AccountPath, _caller: Finance) -> AccountAnswer:
        """Return one account."""
        with _reading(engine) as tx:
            return _account(_found(account, tx))


def _add_statements(router: APIRouter, engine: Engine, clock: Callable[[], datetime]) -> None:
    @router.get("/v1/accounts/{account}/balance", responses=FINDING)
    def get_balance(
        account: AccountPath,
        _caller: Finance,
        at: Instant | None = None,
        by: Literal["booked", "effective"] = "booked",
    ) -> BalanceAnswer:
        """Return an account's balance now, or as of a booked or effective time."""
        # Before the snapshot: what was under way in between counts as under way.
        is_final = at is not None and by == "booked" and at <= _settled_until(engine)
        with _reading(engine) as tx:
            row = _found(account, tx)
            is_now = at is None and by == "booked"
            found = _balance_now(row, tx) if is_now else _balance_at(row, at or clock(), by, tx)
        return found.model_copy(update={"is_final": is_final})

    @router.get("/v1/accounts/{account}/entries", responses=FINDING)
    def list_entries(account: AccountPath, _caller: Finance, cursor: Cursor = None, limit: Limit = 100) -> EntryPage:
        """Return an account's statement in the order of booking."""
        after = {} if cursor is None else _positions(cursor)
        with _reading(engine) as tx:
            row = _found(account, tx)
            found = reading.statement(row.id, after, limit + 1, tx)
        shown = found[:limit]
        return EntryPage(
            account=row.path,
            currency=row.currency,
            entries=[EntryLine(**_fields(EntryLine, line) | {"amount": str(line.amount_minor)}) for line in shown],
            next_cursor=_cursor(after | _shown(shown)) if len(found) > limit else None,
        )


def _add_books(router: APIRouter, engine: Engine) -> None:
    @router.get("/v1/trial-balance", responses=RESPONSES)
    def get_trial_balance(_caller: Finance, chart: ChartName, day: Day) -> TrialBalance:
        """Return a chart's totals at the end of a day in its zone."""
        with _reading(engine) as tx:
            found = trial_balances.trial_balance(chart, day, tx)
        return TrialBalance(
            chart=chart,
            day=day,
            zone=CHARTS[chart].zone,
            closed_at=found.closed_at,
            lines=[_line(each) for each in found.lines],
            at_close=[_line(each) for each in found.at_close],
            late=[LateTransfer(**_fields(LateTransfer, row)) for row in found.late],
            late_count=found.late_count,
        )

    @router.get("/v1/transfers/{reference}", responses=FINDING)
    def get_transfer(reference: Reference, _caller: Finance) -> TransferAnswer:
        """Return a transfer with its entries, and what it has to do with others."""
        with _reading(engine) as tx:
            found = reading.find_transfer(reference, tx)
        if found is None:
            raise Problem(status=404, detail=f"No transfer has the reference {reference}.")
        row, entries = found
        sides = [TransferEntry(**_fields(TransferEntry, each) | {"amount": str(each.amount_minor)}) for each in entries]
        rate = None if row.exchange_rate is None else str(row.exchange_rate)
        return TransferAnswer(**_fields(TransferAnswer, row) | {"exchange_rate": rate, "entries": sides})


@contextmanager
def _reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection on which everything is read from one snapshot."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as tx:
        yield tx


def _settled_until(engine: Engine) -> datetime:
    with engine.connect() as tx:
        return reading.settled_until(tx)


def _fields(model: type[BaseModel], row: Any) -> dict[str, Any]:
    return {name: value for name, value in row._mapping.items() if name in model.model_fields}


def _found(path: str, tx: Connection) -> Any:
    row = reading.find_account(path, tx)
    if row is None:
        raise Problem(status=404, detail=f"No account {path}.")
    return row


def _account(row: Any) -> AccountAnswer:
    limits = {
        name: None if value is None else str(value)
        for name, value in (("floor", row.floor_minor), ("ceiling", row.ceiling_minor))
    }
    return AccountAnswer(**_fields(AccountAnswer, row) | limits | {"account": row.path})


def _balance_now(row: Any, tx: Connection) -> BalanceAnswer:
    totals = reading.balance_now(row.id, tx)
    sign = AccountKind(row.kind).sign
    posted = sign * (totals.debits - totals.credits)
    return BalanceAnswer(
        account=row.path,
        currency=row.currency,
        at=None,
        by="booked",
        is_final=False,
        debits=str(totals.debits),
        credits=str(totals.credits),
        posted=str(posted),
        held_debits=str(totals.held_debits),
        held_credits=str(totals.held_credits),
        available=str(posted - (totals.held_credits if sign > 0 else totals.held_debits)),
    )


def _balance_at(row: Any, at: datetime, by: Literal["booked", "effective"], tx: Connection) -> BalanceAnswer:
    read = reading.balance_booked if by == "booked" else reading.balance_effective
    totals = read(row.id, at, tx)
    return BalanceAnswer(
        account=row.path,
        currency=row.currency,
        at=at,
        by=by,
        is_final=False,
        debits=str(totals.debits),
        credits=str(totals.credits),
        posted=str(AccountKind(row.kind).sign * (totals.debits - totals.credits)),
        held_debits=None,
        held_credits=None,
        available=None,
    )


def _line(line: trial_balances.TrialLine) -> TrialLineAnswer:
    return TrialLineAnswer(code=line.code, currency=line.currency, debits=str(line.debits), credits=str(line.credits))


def _shown(lines: Iterable[Any]) -> dict[int, Position]:
    """Return the last entry of each lane that has any."""
    return {
        line.lane: Position(booked_at=line.booked_at, transfer_id=line.transfer_id, ordinal=line.ordinal)
        for line in lines
    }


def _cursor(positions: Mapping[int, Position]) -> str:
    packed = b"".join(
        POSITION.pack(lane, (each.booked_at - EPOCH) // MICROSECOND, each.transfer_id, each.ordinal)
        for lane, each in sorted(positions.items())
    )
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def _positions(cursor: str) -> dict[int, Position]:
    """Return the position in each lane that a cursor names."""
    try:
        fields = POSITION.iter_unpack(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        found = {
            lane: Position(booked_at=EPOCH + micros * MICROSECOND, transfer_id=transfer_id, ordinal=ordinal)
            for lane, micros, transfer_id, ordinal in fields
        }
    except (binascii.Error, struct.error, OverflowError):
        raise _odd_cursor() from None
    if _cursor(found) != cursor:
        raise _odd_cursor()
    return found


def _account_cursor(cursor: str) -> int:
    if not cursor.isdecimal() or not cursor.isascii() or int(cursor) > ID_MAX:
        raise _odd_cursor()
    return int(cursor)


def _odd_cursor() -> Problem:
    return invalid([FieldError(pointer="query:cursor", detail="No page has returned this cursor; send it unchanged.")])
