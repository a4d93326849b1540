"""Manual postings over HTTP: one person proposes, another approves, and then a saga posts it. Nothing here books.

A proposal waits as long as it takes, and holds nothing meanwhile: its saga begins with the approval.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from sqlalchemy import Engine

from chassis.http.auth import Principal, require
from chassis.http.fields import Currency, SagaId, Time
from chassis.http.json_body import JsonRoute
from chassis.http.movements import KEY_LENGTH_MAX
from chassis.http.people import person
from chassis.http.problem import PROBLEM_RESPONSES, FieldError, Problem, invalid
from chassis.saga import outbox
from chassis.values.people import is_one_person
from chassis.values.remark import LENGTH_MAX, remark
from chassis.wire.codec import Codec
from chassis.wire.envelope import TIME_MAX, TIME_MIN, new_id
from ledger.model.amounts import AMOUNT_MAX
from ledger.model.charts import account_of
from ledger.model.paging import PAGE_MAX
from ledger.model.transfers import Entry
from ledger.outgoing import EVENTS, row_of
from ledger.store import manual_postings
from ledger.store.manual_postings import Proposal
from messages.ledger import ManualPostingApproved, PostingEntry

SAGA_TYPE: Final = "manual_posting"
SAGA_VERSION: Final = 1
ENTRIES_MAX: Final = 100
FIRST: Final = ""
READING: Final = (400, 401, 403, 404, 422, 500, 503)
WRITING: Final = (400, 401, 403, 409, 413, 415, 422, 500, 503)
AMOUNT: Final = re.compile(r"-?[1-9][0-9]{0,18}")

State = Literal["PROPOSED", "REFUSED", "APPROVED", "POSTED", "FAILED"]


def _amount(text: str) -> str:
    if AMOUNT.fullmatch(text) is None or abs(int(text)) > AMOUNT_MAX:
        raise ValueError("No whole number of minor units in 64 bits, or 0")
    return text


def _value_date(at: datetime) -> datetime:
    if not TIME_MIN <= at <= TIME_MAX:
        raise ValueError(f"Not between {TIME_MIN:%Y} and {TIME_MAX:%Y}")
    return at


Remark = Annotated[
    str,
    Field(min_length=1, max_length=LENGTH_MAX, description="Kept for good."),
    AfterValidator(remark),
]


class ManualEntry(BaseModel):
    """One side of a manual posting. ``amount`` is a decimal text of minor units; a debit is positive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account: Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z0-9_.:-]+$")]
    amount: Annotated[str, Field(pattern=r"^-?[1-9][0-9]{0,18}$"), AfterValidator(_amount)]
    currency: Currency


class ManualProposal(BaseModel):
    """What is to be posted, and why. ``effective_at`` is the value date; by default it is the time of the proposal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entries: Annotated[tuple[ManualEntry, ...], Field(min_length=2, max_length=ENTRIES_MAX)]
    effective_at: Annotated[Time, AfterValidator(_value_date)] | None = None
    reason: Remark


class Decision(BaseModel):
    """Why a proposal is approved or refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Remark


class ManualPosting(BaseModel):
    """A manual posting. Once it is approved, ``posting_id`` leads to its timeline and its transfers."""

    posting_id: str
    state: State
    entries: list[ManualEntry]
    effective_at: datetime
    reason: str
    proposed_by: str
    proposed_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None
    outcome: str | None
    ended_at: datetime | None


class ManualPostingPage(BaseModel):
    """A page of manual postings; request the next one with ``cursor=next_cursor``."""

    postings: list[ManualPosting]
    next_cursor: str | None


Bookkeeper = Annotated[Principal, Depends(require("bookkeeper"))]
Reader = Annotated[Principal, Depends(require("finance", "bookkeeper"))]
ProposalKey = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_LENGTH_MAX,
        pattern=r"^[!-~]+$",
        description="Chosen by the client, one for each proposal. The same key proposes once.",
    ),
]
PostingId = Annotated[SagaId, Path()]
Clock = Callable[[], datetime]


def routes(engine: Engine, codec: Codec, clock: Clock) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["manual postings"])
    _add_proposing(router, engine, clock)
    _add_reading(router, engine)
    _add_deciding(router, engine, codec, clock)
    return router


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: PROBLEM_RESPONSES[status] for status in statuses}


def _add_proposing(router: APIRouter, engine: Engine, clock: Clock) -> None:
    @router.post("/v1/manual-postings", status_code=201, responses=_responses(*WRITING))
    def propose(body: ManualProposal, caller: Bookkeeper, key: ProposalKey, response: Response) -> ManualPosting:
        """Propose a posting, once for an Idempotency-Key. Nothing is booked until another person approves it."""
        entries = tuple(Entry(each.account, int(each.amount), each.currency) for each in body.entries)
        if flaws := flaws_of(entries):
            raise invalid(flaws)
        now = clock()
        proposal = Proposal(
            posting_id=new_id(),
            key=key,
            entries=entries,
            effective_at=body.effective_at or now,
            reason=body.reason,
            proposed_by=person(caller),
            proposed_at=now,
        )
        with engine.begin() as tx:
            row = manual_postings.propose(proposal, tx)
        if row.posting_id != proposal.posting_id:
            _check_repeated(row, proposal, is_dated=body.effective_at is not None)
            response.headers["Idempotent-Replayed"] = "true"
        return _answer(row)


def flaws_of(entries: Sequence[Entry]) -> list[FieldError]:
    """Return what is wrong with the entries of a proposal, whatever the balances are: accounts, currencies, the sum."""
    found: list[FieldError] = []
    for index, entry in enumerate(entries):
        account = account_of(entry.account)
        if account is None:
            detail = "No chart has such an account; it is chart:code:currency, with the owner before the currency."
            found.append(FieldError(pointer=f"#/entries/{index}/account", detail=detail))
        elif account[-1] != entry.currency:
            detail = "Not the currency of the account."
            found.append(FieldError(pointer=f"#/entries/{index}/currency", detail=detail))
    if len({entry.account.partition(":")[0] for entry in entries}) > 1:
        detail = "More than one chart, and the books of each are balanced by themselves; propose a posting for each."
        found.append(FieldError(pointer="#/entries", detail=detail))
    if len({entry.currency for entry in entries}) > 1:
        detail = "More than one currency; propose a posting for each."
        found.append(FieldError(pointer="#/entries", detail=detail))
    elif total := sum(entry.amount_minor for entry in entries):
        found.append(FieldError(pointer="#/entries", detail=f"The amounts sum to {total}, not to 0."))
    return found


def _check_repeated(row: Any, proposal: Proposal, *, is_dated: bool) -> None:
    """Check that a proposal under a key that was used is the same one. Raises Problem."""
    is_same = (
        manual_postings.entries_of(row) == proposal.entries
        and row.reason == proposal.reason
        and (not is_dated or row.effective_at == proposal.effective_at)
    )
    if not is_same:
        raise Problem(
            status=422,
            title="The key was used for another body",
            detail="This Idempotency-Key was used for another proposal; send a new proposal with a new key.",
            type="urn:baraza:problem:idempotency-mismatch",
        )


def _add_reading(router: APIRouter, engine: Engine) -> None:
    @router.get("/v1/manual-postings", responses=_responses(400, 401, 403, 422, 500, 503))
    def list_manual_postings(
        _caller: Reader,
        state: State | None = None,
        cursor: Annotated[str | None, Query(pattern=r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$")] = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
    ) -> ManualPostingPage:
        """Return manual postings in the order in which they were proposed."""
        with engine.connect() as tx:
            found = manual_postings.list_postings(state=state, after=cursor or FIRST, count=limit + 1, tx=tx)
        shown = found[:limit]
        return ManualPostingPage(
            postings=[_answer(row) for row in shown],
            next_cursor=shown[-1].posting_id if len(found) > limit else None,
        )

    @router.get("/v1/manual-postings/{posting_id}", responses=_responses(*READING))
    def get_manual_posting(posting_id: PostingId, _caller: Reader) -> ManualPosting:
        """Return a manual posting, who proposed it, who decided about it, and how it ended."""
        with engine.connect() as tx:
            row = manual_postings.find(posting_id, tx)
        return _answer(_found(row, posting_id))


def _add_deciding(router: APIRouter, engine: Engine, codec: Codec, clock: Clock) -> None:
    @router.post("/v1/manual-postings/{posting_id}/approval", responses=_responses(*WRITING, 404))
    def approve(posting_id: PostingId, body: Decision, caller: Bookkeeper) -> ManualPosting:
        """Approve what another person proposed. Its saga begins."""
        now, by = clock(), person(caller)
        with engine.begin() as tx:
            proposed = _found(manual_postings.find(posting_id, tx), posting_id)
            if proposed.state == "PROPOSED" and is_one_person(proposed.proposed_by, by):
                raise _second_person(proposed.proposed_by)
            row = manual_postings.decide(posting_id, "APPROVED", tx, by=by, reason=body.reason, at=now)
            if row is not None:
                outbox.save(tx, [row_of(_approved(row), EVENTS, codec)])
            else:
                row = _found(manual_postings.find(posting_id, tx), posting_id)
                _check_decided(row, caller, refused=False)
        return _answer(row)

    @router.post("/v1/manual-postings/{posting_id}/refusal", responses=_responses(*WRITING, 404))
    def refuse(posting_id: PostingId, body: Decision, caller: Bookkeeper) -> ManualPosting:
        """Refuse a proposal, or withdraw one's own. It stays readable, and nothing is booked."""
        with engine.begin() as tx:
            row = manual_postings.decide(posting_id, "REFUSED", tx, by=person(caller), reason=body.reason, at=clock())
            if row is None:
                row = _found(manual_postings.find(posting_id, tx), posting_id)
                _check_decided(row, caller, refused=True)
        return _answer(row)


def _approved(row: Any) -> ManualPostingApproved:
    """Return the event that starts the saga of an approved posting."""
    return ManualPostingApproved(
        message_id=new_id(),
        saga_id=row.posting_id,
        saga_type=SAGA_TYPE,
        saga_version=SAGA_VERSION,
        causation_id=None,
        occurred_at=row.decided_at,
        entries=tuple(
            PostingEntry(account=each.account, amount_minor=each.amount_minor, currency=each.currency)
            for each in manual_postings.entries_of(row)
        ),
        effective_at=row.effective_at,
        reason=row.reason,
        proposed_by=row.proposed_by,
        proposed_at=row.proposed_at,
        approved_by=row.decided_by,
        approval_reason=row.decision_reason,
    )


def _second_person(proposed_by: str) -> Problem:
    return Problem(
        status=403,
        title="Another person has to approve it",
        detail=f"{proposed_by} proposed this posting; another person looks at it and approves it.",
        type="urn:baraza:problem:second-person",
    )


def _check_decided(row: Any, caller: Principal, *, refused: bool) -> None:
    """Let the same decision of the same person be repeated. Raises Problem for any other one."""
    if (row.state == "REFUSED") is refused and row.decided_by == caller.subject:
        return
    raise Problem(
        status=409,
        title="It is decided",
        detail=f"{row.decided_by} has decided about this posting, which is {row.state}; propose another one.",
        type="urn:baraza:problem:posting-decided",
    )


def _found(row: Any, posting_id: str) -> Any:
    if row is None:
        raise Problem(status=404, detail=f"No manual posting {posting_id}.")
    return row


def _answer(row: Any) -> ManualPosting:
    entries = [
        ManualEntry(account=each.account, amount=str(each.amount_minor), currency=each.currency)
        for each in manual_postings.entries_of(row)
    ]
    fields = {name: value for name, value in row._mapping.items() if name in ManualPosting.model_fields}
    return ManualPosting(**fields | {"entries": entries})
