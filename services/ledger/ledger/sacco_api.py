"""What people read of a SACCO over HTTP: receipts, payouts, loans, a member's accounts and statement. Nothing writes.

Staff read everything. A member reads what is the member's own, and finds nothing of another one. Amounts are decimal
texts of minor units, as everywhere in the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AfterValidator, BaseModel, Field
from sqlalchemy import Connection, Engine

from chassis.http.auth import Principal, require
from chassis.http.fields import Time
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, FieldError, Problem, invalid
from chassis.wire.envelope import TIME_MAX, TIME_MIN
from ledger.model.loans import Loan, LoanState, Split
from ledger.model.paging import PAGE_MAX
from ledger.model.sacco_books import PayoutState, ReceiptKey, ReceiptState, path
from ledger.store import loan_books, sacco_reading

MEMBER: Final = "member"
STAFF: Final = ("teller", "treasury", "finance", "approver", "support", "operator")
NEWEST: Final = 2**63 - 1
ORDINAL_MAX: Final = 2**15 - 1
MICROSECOND: Final = timedelta(microseconds=1)
FIRST: Final = (TIME_MIN, "")
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: PROBLEM_RESPONSES[status] for status in (400, 401, 403, 422, 500, 503)
}
FINDING = RESPONSES | {404: PROBLEM_RESPONSES[404]}


def _in_range(at: datetime) -> datetime:
    """Return the time. Raises ValueError where it is too near to the ends of the calendar to be reckoned with."""
    if not TIME_MIN <= at <= TIME_MAX:
        raise ValueError(f"Not between {TIME_MIN:%Y} and {TIME_MAX:%Y}")
    return at


Staff = Annotated[Principal, Depends(require(*STAFF))]
Reader = Annotated[Principal, Depends(require(MEMBER, *STAFF))]
Amount = Annotated[str, Field(description="Minor units, as a decimal text.")]
Instant = Annotated[Time, AfterValidator(_in_range)]
Name = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
ShortCode = Annotated[str, Query(max_length=64, pattern=r"^[A-Za-z0-9_.:-]+$")]
MemberId = Annotated[str, Path(pattern=r"^[A-Z0-9]{3,16}$")]
LoanId = Annotated[str, Path(pattern=r"^LN[0-9]{1,30}$")]
Cursor = Annotated[str | None, Query(max_length=96, pattern=r"^[0-9A-Za-z_-]+$")]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]
AccountCode = Literal["fosa", "deposits", "shares", "dividends_payable", "member_receivable"]


class ReceiptAnswer(BaseModel):
    """A receipt. ``inputs`` are what its allocation was computed from; ``saga_id`` is the saga that recorded it."""

    saga_id: str
    provider: str
    short_code: str
    receipt: str
    currency: str
    amount: Amount
    completed_at: datetime
    recorded_at: datetime
    state: ReceiptState
    member_id: str | None
    allocated_by: str | None
    policy: str | None
    policy_version: int | None
    inputs: dict[str, Any] | None
    returned_by: str | None


class ReceiptPage(BaseModel):
    """A page of receipts, the oldest first; request the next one with ``cursor=next_cursor``."""

    receipts: list[ReceiptAnswer]
    next_cursor: str | None


class PayoutAnswer(BaseModel):
    """A payout. HELD: its money is in transit. ``ended_at`` is its value date once it is paid."""

    saga_id: str
    short_code: str
    source: str
    member_id: str
    currency: str
    amount: Amount
    held_at: datetime
    state: PayoutState
    ended_at: datetime | None


class PayoutPage(BaseModel):
    """A page of payouts, those first that were held first; request the next one with ``cursor=next_cursor``."""

    payouts: list[PayoutAnswer]
    next_cursor: str | None


class PartsAnswer(BaseModel):
    """Amounts by the parts of a loan."""

    penalties: Amount
    fees: Amount
    interest: Amount
    principal: Amount


class LoanPaymentAnswer(BaseModel):
    """A payment with its parts as they are booked now, all corrections included."""

    saga_id: str
    value_at: datetime
    policy: str
    policy_version: int
    split: PartsAnswer


class LoanAnswer(BaseModel):
    """A loan. ``owed`` is what is due at ``at``, with all of the principal that is left."""

    loan_id: str
    member_id: str
    state: LoanState
    currency: str
    principal: Amount
    disbursed: Amount
    interest_ppm: int
    term_months: int
    penalty_ppm: int
    interest_from: datetime | None
    at: datetime
    owed: PartsAnswer
    payments: list[LoanPaymentAnswer]


class MemberAccount(BaseModel):
    """A member's account with its balance on its own side."""

    account: str
    code: str
    currency: str
    balance: Amount
    is_closed: bool


class MemberAnswer(BaseModel):
    """A member's accounts and loans."""

    member_id: str
    accounts: list[MemberAccount]
    loans: list[LoanAnswer]


class StatementLine(BaseModel):
    """One line. ``amount`` above zero came in, below zero went out; ``balance`` is the account's after it."""

    reference: str
    amount: Amount
    balance: Amount
    booked_at: datetime
    effective_at: datetime
    saga_id: str | None
    step: str | None


class StatementPage(BaseModel):
    """A page of a member's statement, the newest first; request the next one with ``cursor=next_cursor``."""

    account: str
    lines: list[StatementLine]
    next_cursor: str | None


def routes(engine: Engine, clock: Callable[[], datetime]) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["sacco"])
    _add_receipts(router, engine)
    _add_payouts(router, engine)
    _add_loans(router, engine, clock)
    _add_members(router, engine, clock)
    _add_statements(router, engine)
    return router


def _add_receipts(router: APIRouter, engine: Engine) -> None:
    @router.get("/v1/receipts", responses=RESPONSES)
    def list_receipts(
        _caller: Staff,
        short_code: ShortCode,
        state: ReceiptState = ReceiptState.UNALLOCATED,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> ReceiptPage:
        """Return a short code's receipts of a state, the oldest first."""
        with _reading(engine) as tx:
            found = sacco_reading.list_receipts(short_code, state.value, tx, after=_after(cursor), count=limit + 1)
        shown = found[:limit]
        last = None if len(found) <= limit else _cursor(shown[-1].completed_at, shown[-1].saga_id)
        return ReceiptPage(receipts=[_receipt(row) for row in shown], next_cursor=last)

    @router.get("/v1/receipts/{provider}/{short_code}/{receipt}", responses=FINDING)
    def get_receipt(provider: Name, short_code: Name, receipt: Name, _caller: Staff) -> ReceiptAnswer:
        """Return one receipt, with the inputs of its allocation."""
        key = ReceiptKey(provider=provider, short_code=short_code, receipt=receipt.upper())
        with _reading(engine) as tx:
            row = sacco_reading.find_receipt(key, tx)
        if row is None:
            raise Problem(status=404, detail=f"No receipt {key.receipt} of {provider} {short_code} is recorded.")
        return _receipt(row)


def _add_payouts(router: APIRouter, engine: Engine) -> None:
    @router.get("/v1/payouts", responses=RESPONSES)
    def list_payouts(
        _caller: Staff,
        short_code: ShortCode,
        state: PayoutState = PayoutState.HELD,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> PayoutPage:
        """Return a short code's payouts of a state, those first that were held first."""
        with _reading(engine) as tx:
            found = sacco_reading.list_payouts(short_code, state.value, tx, after=_after(cursor), count=limit + 1)
        shown = found[:limit]
        last = None if len(found) <= limit else _cursor(shown[-1].held_at, shown[-1].saga_id)
        payouts = [PayoutAnswer(**{**row._mapping, "amount": str(row.amount_minor)}) for row in shown]
        return PayoutPage(payouts=payouts, next_cursor=last)


def _add_loans(router: APIRouter, engine: Engine, clock: Callable[[], datetime]) -> None:
    @router.get("/v1/loans/{loan_id}", responses=FINDING)
    def get_loan(loan_id: LoanId, caller: Reader, at: Instant | None = None) -> LoanAnswer:
        """Return a loan, and what is owed of it now or at a value date."""
        with _reading(engine) as tx:
            loan = loan_books.find([loan_id], tx).get(loan_id)
        if loan is None or not _may_read(caller, loan.terms.member_id):
            raise Problem(status=404, detail=f"No loan {loan_id}.")
        return _loan(loan, at or clock())


def _add_members(router: APIRouter, engine: Engine, clock: Callable[[], datetime]) -> None:
    @router.get("/v1/members/{member_id}/accounts", responses=FINDING)
    def get_member(member_id: MemberId, caller: Reader) -> MemberAnswer:
        """Return a member's accounts and loans."""
        with _reading(engine) as tx:
            accounts = _accounts_of(member_id, caller, tx)
            loans = loan_books.find(sacco_reading.loans_of_member(member_id, tx), tx)
        return MemberAnswer(
            member_id=member_id,
            accounts=[_account(row) for row in accounts],
            loans=[_loan(each, clock()) for _, each in sorted(loans.items())],
        )


def _add_statements(router: APIRouter, engine: Engine) -> None:
    @router.get("/v1/members/{member_id}/statement", responses=FINDING)
    def get_statement(
        member_id: MemberId,
        caller: Reader,
        account: AccountCode = "fosa",
        currency: Annotated[str, Query(pattern=r"^[A-Z]{3}$")] = "KES",
        since: Instant = TIME_MIN,
        until: Instant = TIME_MAX,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> StatementPage:
        """Return the lines of a member's account that were booked in a range of time, the newest first."""
        named, before = path(account, currency, member_id), _before(cursor)
        with _reading(engine) as tx:
            if named not in [row.account for row in _accounts_of(member_id, caller, tx)]:
                raise _no_member(member_id)
            found = sacco_reading.member_statement(named, tx, since=since, until=until, before=before, count=limit + 1)
        shown = found[:limit]
        last = None if len(found) <= limit else f"{shown[-1].transfer_id}_{shown[-1].ordinal}"
        return StatementPage(account=named, lines=[_line(account, row) for row in shown], next_cursor=last)


def _accounts_of(member_id: str, caller: Principal, tx: Connection) -> list[Any]:
    """Return a member's accounts. Raises the 404 of a member who has none, or is another one than the caller."""
    found = sacco_reading.accounts_of_member(member_id, tx) if _may_read(caller, member_id) else []
    if not found:
        raise _no_member(member_id)
    return found


def _no_member(member_id: str) -> Problem:
    return Problem(status=404, detail=f"No member {member_id} has such an account here.")


@contextmanager
def _reading(engine: Engine) -> Iterator[Connection]:
    """Yield a connection on which everything is read from one snapshot."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as tx:
        yield tx


def _may_read(caller: Principal, member_id: str) -> bool:
    """Return whether a caller may read what is a member's: staff, and the member."""
    return bool(caller.roles & set(STAFF)) or caller.subject == member_id


def _receipt(row: Any) -> ReceiptAnswer:
    return ReceiptAnswer(**{**row._mapping, "amount": str(row.amount_minor)})


def _account(row: Any) -> MemberAccount:
    return MemberAccount(**{**row._mapping, "balance": _own_side(row.code, row.credit)})


def _split(split: Split) -> PartsAnswer:
    return PartsAnswer(
        penalties=str(split.penalties_minor),
        fees=str(split.fees_minor),
        interest=str(split.interest_minor),
        principal=str(split.principal_minor),
    )


def _loan(loan: Loan, at: datetime) -> LoanAnswer:
    owed, terms = loan.owed_at(at), loan.terms
    return LoanAnswer(
        loan_id=terms.loan_id,
        member_id=terms.member_id,
        state=loan.state,
        currency=terms.currency,
        principal=str(terms.principal_minor),
        disbursed=str(loan.disbursed_minor),
        interest_ppm=terms.interest_ppm,
        term_months=terms.term_months,
        penalty_ppm=terms.penalty_ppm,
        interest_from=min((each.value_at for each in loan.disbursements), default=None),
        at=at,
        owed=PartsAnswer(
            penalties=str(owed.penalties_minor),
            fees=str(owed.fees_minor),
            interest=str(owed.interest_minor),
            principal=str(owed.principal_minor),
        ),
        payments=[
            LoanPaymentAnswer(
                saga_id=each.saga_id,
                value_at=each.value_at,
                policy=each.policy,
                policy_version=each.policy_version,
                split=_split(each.split),
            )
            for each in loan.payments
        ],
    )


def _own_side(code: str, credit: str) -> str:
    """Return credits less debits on the account's own side: what a member owes us is a debit."""
    return str(-int(credit)) if code == "member_receivable" else credit


def _line(code: str, row: Any) -> StatementLine:
    return StatementLine(
        reference=row.reference,
        amount=_own_side(code, str(-row.amount_minor)),
        balance=_own_side(code, row.credit_after),
        booked_at=row.booked_at,
        effective_at=row.effective_at,
        saga_id=row.saga_id,
        step=row.step,
    )


def _cursor(at: datetime, saga_id: str) -> str:
    return f"{(at - TIME_MIN) // MICROSECOND}_{saga_id}"


def _after(cursor: str | None) -> tuple[datetime, str]:
    """Return the row after which a page begins. Raises the 422 of a cursor that no page has returned."""
    if cursor is None:
        return FIRST
    micros, _, saga_id = cursor.partition("_")
    if not micros.isdecimal() or not saga_id or int(micros) > (TIME_MAX - TIME_MIN) // MICROSECOND:
        raise _odd_cursor()
    return TIME_MIN + int(micros) * MICROSECOND, saga_id


def _before(cursor: str | None) -> tuple[int, int]:
    """Return the entry before which a page begins. Raises the 422 of a cursor that no page has returned."""
    if cursor is None:
        return NEWEST, 0
    id_, _, ordinal = cursor.partition("_")
    if not (id_.isdecimal() and ordinal.isdecimal()) or int(id_) > NEWEST or int(ordinal) > ORDINAL_MAX:
        raise _odd_cursor()
    return int(id_), int(ordinal)


def _odd_cursor() -> Problem:
    return invalid([FieldError(pointer="query:cursor", detail="No page has returned this cursor; send it unchanged.")])
