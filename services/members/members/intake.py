"""Accepts what members request, one batch in one transaction: keys, requests and outbox rows commit together.

Members' rows are locked, so that however many requests come at once, each is decided knowing those before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection

from chassis.http.problem import FieldError, Problem
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import TRACEPARENT, NewId, child_traceparent, headers, new_id
from members import key_tables, loan_tables, member_tables, request_tables, terms_tables
from members.attribution import KnownLoan
from members.domain import AccountStatus, LoanState, MemberState, collection_reference, day_of, start_of
from members.key_tables import UsedKey, check_same, in_progress
from members.request_tables import NewCollection, NewRepayment, NewWithdrawal
from members.requests import (
    COLLECTION,
    REPAYMENT,
    WITHDRAWAL,
    Admitted,
    Door,
    Earlier,
    Refusal,
    Request,
    Requester,
    Way,
)
from members.terms import Policies
from messages.contract import Message, name_of
from messages.members import CollectionRequested, LoanRepaymentRequested, WithdrawalRequested

TOPIC: Final = "members.events"
SOURCE: Final = "members"
SAGA_OF: Final = {COLLECTION: "collection", WITHDRAWAL: "withdrawal", REPAYMENT: "loan_repayment"}
SAGA_VERSION: Final = 1
CONFLICTS: Final = frozenset({"request_open", "accounts_not_open"})
"""What another time may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A request under an idempotency key. ``body`` is its meaning, by which it is known again."""

    request: Request
    digest: bytes
    body: Mapping[str, Any]
    traceparent: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A request that is stored under this id. ``new`` is what was stored just now; None: by an earlier request."""

    id: str
    new: NewCollection | NewWithdrawal | NewRepayment | None = None

    @property
    def is_replay(self) -> bool:
        """Whether an earlier request had it stored."""
        return self.new is None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchResult:
    """The outcomes in the order of the submissions, and the rows to publish after the commit."""

    outcomes: list[Accepted | Problem]
    rows: list[OutboxRow]


@dataclass(slots=True, kw_only=True)
class _Batch:
    """What one batch stores."""

    codec: Codec
    now: datetime
    door: Door
    policies: Policies
    members: Mapping[str, Any]
    collections: list[NewCollection]
    withdrawals: list[NewWithdrawal]
    repayments: list[NewRepayment]
    keys: list[UsedKey]
    rows: list[OutboxRow]


def accept(
    tx: Connection, submissions: Sequence[Submission], *, codec: Codec, new_saga_id: NewId, now: datetime
) -> BatchResult:
    """Store the acceptable requests of a batch and return the outcome of each submission.

    1. Lock the keys until the transaction ends. A key that another one holds is refused without waiting.
    2. Lock the members, and load what decides: terms, accounts, loans, and what is open or was requested today.
    3. Decide one after the other, and store keys, requests and outbox rows.
    """
    first: dict[bytes, Submission] = {}
    for each in submissions:
        first.setdefault(each.digest, each)
    # 1.
    locked, used = key_tables.lock_and_load(tx, list(first))
    new = [each for digest, each in first.items() if digest in locked and digest not in used]
    # 2. and 3.
    decided: dict[bytes, Accepted | Problem] = {}
    rows: list[OutboxRow] = []
    if new:
        batch = _load(tx, new, codec, now)
        for each in new:
            decided[each.digest] = _decide(batch, each, new_saga_id)
        request_tables.insert(tx, batch.collections, batch.withdrawals, batch.repayments)
        key_tables.claim(tx, batch.keys)
        outbox.save(tx, batch.rows)
        used |= {each.digest: each for each in batch.keys}
        rows = batch.rows
    outcomes = [_outcome(each, first[each.digest], decided, used) for each in submissions]
    return BatchResult(outcomes=outcomes, rows=rows)


def _outcome(
    each: Submission,
    first: Submission,
    decided: Mapping[bytes, Accepted | Problem],
    used: Mapping[bytes, UsedKey],
) -> Accepted | Problem:
    own = decided.get(each.digest)
    if own is not None and each is first:
        return own
    known = used.get(each.digest)
    if known is not None:
        return check_same(known, each.body) or Accepted(id=known.result_id)
    return own if isinstance(own, Problem) and each.body == first.body else in_progress()


def _load(tx: Connection, new: Sequence[Submission], codec: Codec, now: datetime) -> _Batch:
    ids = {each.request.member_id for each in new}
    members = member_tables.lock(tx, ids)
    tariff = terms_tables.load_tariffs(tx).valid(now)
    statuses = member_tables.statuses(tx, ids)
    phones = member_tables.phones_of(tx, ids)
    requesters = {
        number: Requester(
            member_id=number,
            state=MemberState(row.state),
            status=AccountStatus(row.status),
            phone=row.phone,
            phones=phones.get(number, set()),
            accounts={kind: AccountStatus(status) for kind, status in statuses[number].items()},
            day_max_minor=row.day_max_minor,
        )
        for number, row in members.items()
    }
    used_phones = {row.phone for row in members.values()} | {each.request.phone for each in new if each.request.phone}
    since = now - timedelta(seconds=tariff.repeat_within_s)
    day = min(since, start_of(day_of(now)))
    earlier = request_tables.recent(tx, ids, used_phones, since=since, day=day)
    door = Door(
        now=now,
        tariff=tariff,
        ways=ways(tx),
        requesters=requesters,
        loans=_loans(tx, new),
        earlier=[Earlier(**row._asdict()) for row in earlier],
    )
    return _Batch(
        codec=codec, now=now, door=door, policies=terms_tables.load_policies(tx), members=members,
        collections=[], withdrawals=[], repayments=[], keys=[], rows=[],
    )  # fmt: skip


def ways(tx: Connection) -> list[Way]:
    """Return our open short codes, the preferred one first."""
    return [
        Way(short_code=each.short_code, provider=each.provider, currency=each.currency)
        for each in terms_tables.load_short_codes(tx)
        if each.is_open
    ]


def _loans(tx: Connection, new: Sequence[Submission]) -> dict[str, KnownLoan]:
    rows = loan_tables.load(tx, {each.request.target for each in new if each.request.target.startswith("LN")})
    return {
        number: KnownLoan(loan_id=number, member_id=row.member_id, state=LoanState(row.state))
        for number, row in rows.items()
    }


def _decide(batch: _Batch, each: Submission, new_saga_id: NewId) -> Accepted | Problem:
    decided = batch.door.decide(each.request)
    if isinstance(decided, Refusal):
        return problem_of(decided)
    saga_id = new_saga_id()
    batch.door.note(decided, saga_id)
    new, event = _STORE[each.request.kind](batch, decided, saga_id)
    batch.keys.append(UsedKey(digest=each.digest, body=each.body, result_id=saga_id, created_at=batch.now))
    batch.rows.append(outbox_row(event, batch.codec, each.traceparent))
    return Accepted(id=saga_id, new=new)


_Stored: TypeAlias = tuple[NewCollection | NewWithdrawal | NewRepayment, Message]


def _collection(batch: _Batch, admitted: Admitted, saga_id: str) -> _Stored:
    request, way = admitted.request, admitted.way
    new = NewCollection(
        collection_id=saga_id,
        member_id=request.member_id,
        provider=way.provider,
        short_code=way.short_code,
        reference=collection_reference(saga_id),
        target=request.target,
        phone=admitted.phone,
        currency=way.currency,
        amount_minor=request.amount_minor,
        requested_at=batch.now,
    )
    batch.collections.append(new)
    names = ("member_id", "provider", "short_code", "reference", "target", "phone", "currency", "amount_minor")
    return new, CollectionRequested(**beginning(saga_id, "collection", batch.now), **_of(new, names))


def _withdrawal(batch: _Batch, admitted: Admitted, saga_id: str) -> _Stored:
    request, way = admitted.request, admitted.way
    new = NewWithdrawal(
        withdrawal_id=saga_id,
        member_id=request.member_id,
        provider=way.provider,
        short_code=way.short_code,
        phone=admitted.phone,
        currency=way.currency,
        amount_minor=request.amount_minor,
        fee_minor=admitted.fee_minor,
        excise_minor=admitted.excise_minor,
        requested_at=batch.now,
    )
    batch.withdrawals.append(new)
    names = (
        "member_id", "provider", "short_code", "phone", "currency", "amount_minor", "fee_minor", "excise_minor",
    )  # fmt: skip
    return new, WithdrawalRequested(**beginning(saga_id, "withdrawal", batch.now), **_of(new, names))


def _repayment(batch: _Batch, admitted: Admitted, saga_id: str) -> _Stored:
    request = admitted.request
    new = NewRepayment(
        repayment_id=saga_id,
        member_id=request.member_id,
        loan_id=request.target,
        currency=admitted.way.currency,
        amount_minor=request.amount_minor,
        requested_at=batch.now,
    )
    batch.repayments.append(new)
    policy = batch.policies.valid(batch.members[request.member_id].policy, batch.now)
    return new, LoanRepaymentRequested(
        **beginning(saga_id, "loan_repayment", batch.now),
        **_of(new, ("member_id", "loan_id", "currency", "amount_minor")),
        policy=policy.name,
        policy_version=policy.version,
        loan_order=policy.loan_order,
        value_at=batch.now,
    )


_STORE: Final = {COLLECTION: _collection, WITHDRAWAL: _withdrawal, REPAYMENT: _repayment}


def _of(new: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(new, name) for name in names}


def beginning(saga_id: str, saga_type: str, now: datetime) -> dict[str, Any]:
    """Return the envelope of an event that begins a saga because of a request."""
    return {
        "message_id": new_id(),
        "saga_id": saga_id,
        "saga_type": saga_type,
        "saga_version": SAGA_VERSION,
        "causation_id": None,
        "occurred_at": now,
    }


def problem_of(refusal: Refusal) -> Problem:
    """Return the problem of a refusal: 409 where another time may do, 403 where no request is taken, else 422."""
    extra: dict[str, Any] = {"code": refusal.code}
    if refusal.open_id is not None:
        extra["open_request_id"] = refusal.open_id
    if refusal.field:
        error = FieldError(pointer=f"#/{refusal.field}", detail=refusal.detail)
        extra["errors"] = [error.to_json()]
    status = 409 if refusal.code in CONFLICTS else 422 if refusal.field else 403
    seconds = refusal.retry_after_s
    return Problem(
        status=status,
        title="The request is refused",
        detail=refusal.detail,
        type=f"urn:baraza:problem:{refusal.code.replace('_', '-')}",
        extra=extra,
        headers={} if seconds is None else {"Retry-After": str(seconds)},
    )


def outbox_row(event: Message, codec: Codec, request: bytes | None) -> OutboxRow:
    """Return the outbox row of an event, in the trace context of a request or (None) in a new trace.

    The row has no partition: the producer chooses one by the key.
    """
    return OutboxRow(
        id=event.message_id,
        topic=TOPIC,
        saga_id=event.saga_id,
        type=name_of(type(event)),
        payload=codec.encode(TOPIC, event),
        headers=headers(event, source=SOURCE, traceparent=child_traceparent(request)),
        partition=None,
        cause=() if request is None else ((TRACEPARENT, request),),
    )
