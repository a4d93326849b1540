"""Members' HTTP API for members themselves: registration, phones, the status of accounts, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from chassis.http.auth import Principal
from chassis.http.json_body import JsonRoute
from chassis.http.problem import FieldError, Problem, invalid
from chassis.postgres.transient import utc_now
from chassis.saga.outbox import OutboxRow
from members import member_tables, terms_tables
from members.access import Reader, StaffMember, Teller, may_see, no_member
from members.bodies import ChangeBody, MemberBody, Members, Phone, PhoneBody, StatusBody
from members.domain import day_of
from members.endpoints import CHANGE, COMMON, ONE, After, ApiResources, Limit, MemberPath, Resources, Trace, save_events
from members.intake import beginning
from members.member_tables import Holding, MemberRow, NewMember
from members.phones import hash_of
from members.tables import OPENING
from messages.members import MemberRegistered

SAGA_TYPE: Final = "member_onboarding"
CURRENCY: Final = "KES"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAnswer:
    """A member. Requests are taken while its state and its status are ACTIVE."""

    member_id: str
    name: str
    state: str
    status: str
    status_reason: str | None
    accounts: dict[str, str]
    phone: str
    phones: list[str]
    language: str
    policy: str
    destination: str
    day_max_minor: int | None
    currency: str
    failure_reason: str | None
    registered_at: datetime
    onboarded_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSummary:
    """A member in a list."""

    member_id: str
    name: str
    state: str
    status: str
    phone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPage:
    """Members in the order of their numbers. Pass ``next`` as ``after`` for the next page; null: the last one."""

    members: list[MemberSummary]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkAnswer:
    """How many members were registered now, and how many before."""

    registered: int
    known: int


routes = APIRouter(route_class=JsonRoute, prefix="/v1", responses=COMMON, tags=["members"])


@routes.post(
    "/members",
    status_code=202,
    response_model=MemberAnswer,
    responses={**CHANGE, 200: {"description": "It was registered before.", "model": MemberAnswer}},
)
def register_member(
    body: MemberBody, _caller: Teller, resources: Resources, trace: Trace, request: Request, response: Response
) -> MemberAnswer:
    """Register a member under a number of your choice. Requests are taken once the accounts are open."""
    new = _new_member(body, resources)
    with resources.engine.begin() as tx:
        _check_policy(tx, body.policy)
        rows = _register(tx, [new], [body], resources, trace)
        row = member_tables.load(tx, [body.member_id])[body.member_id]
        found = _answer(tx, row)
    resources.batcher.publish(rows)
    if not rows:
        _check_same(found, body)
        response.status_code = 200
    request.scope["saga_id"] = row.saga_id
    response.headers["Location"] = f"/v1/members/{body.member_id}"
    return found


def _new_member(body: MemberBody, resources: ApiResources) -> NewMember:
    return NewMember(
        member_id=body.member_id,
        saga_id=resources.batcher.new_saga_id(),
        name=body.name,
        language=body.language,
        policy=body.policy,
        destination=body.destination,
        phone=body.phone,
        payer_hash=_hash(body.phone, resources),
        day_max_minor=body.day_max_minor,
        currency=CURRENCY,
        registered_at=utc_now(),
    )


def _register(
    tx: Connection, new: Sequence[NewMember], bodies: Sequence[MemberBody], resources: ApiResources, trace: bytes
) -> list[OutboxRow]:
    """Store members with the events that start their sagas, which start anew where they failed. Return the rows."""
    inserted = member_tables.insert(tx, new)
    begun = [
        each for each in new if each.member_id in inserted or member_tables.restart(tx, each.member_id, each.saga_id)
    ]
    held = [_held(each, body) for each, body in zip(new, bodies, strict=True) if each.member_id in inserted]
    member_tables.add_holdings(tx, [holding for holdings in held for holding in holdings])
    events = [
        MemberRegistered(
            **beginning(each.saga_id, SAGA_TYPE, each.registered_at),
            member_id=each.member_id,
            phone=each.phone,
            language=each.language,
            currency=CURRENCY,
        )
        for each in begun
    ]
    return save_events(tx, events, resources.codec, trace)


def _held(new: NewMember, body: MemberBody) -> list[Holding]:
    """Return what the member held before, which counts for every month of every year."""
    month = day_of(new.registered_at).replace(year=2000, month=1, day=1)
    opening = {"SHARES": body.opening_shares_minor, "DEPOSITS": body.opening_deposits_minor}
    return [
        Holding(source=OPENING, member_id=new.member_id, kind=kind, month=month, amount_minor=amount_minor)
        for kind, amount_minor in opening.items()
        if amount_minor
    ]


@routes.post("/members/bulk", status_code=202, responses=CHANGE)
def register_members(body: Members, _caller: Teller, resources: Resources, trace: Trace) -> BulkAnswer:
    """Register members, all in one transaction or none. One that was registered before with the same values counts."""
    # In the order of their numbers, so that two requests at once do not wait for each other.
    ordered = sorted(body, key=lambda each: each.member_id)
    # A number that the request has twice is registered once.
    first = list({each.member_id: each for each in reversed(ordered)}.values())
    new = [_new_member(each, resources) for each in first]
    with resources.engine.begin() as tx:
        for name in sorted({each.policy for each in ordered}):
            _check_policy(tx, name)
        rows = _register(tx, new, first, resources, trace)
        stored = member_tables.load(tx, [each.member_id for each in ordered])
        for each in ordered:
            _check_same(stored[each.member_id], each)
    resources.batcher.publish(rows)
    return BulkAnswer(registered=len(rows), known=len(ordered) - len(rows))


@routes.get("/members", responses=COMMON)
def list_members(
    _caller: StaffMember,
    resources: Resources,
    after: After = "",
    limit: Limit = 100,
    state: Annotated[str | None, Query(pattern=r"^[A-Z]{1,20}$")] = None,
    status: Annotated[str | None, Query(pattern=r"^[A-Z]{1,20}$")] = None,
    phone: Annotated[Phone | None, Query()] = None,
) -> MemberPage:
    """Return a page of members."""
    with resources.engine.begin() as tx:
        found = member_tables.page(tx, after=after, limit=limit + 1, state=state, status=status, phone=phone)
    names = MemberSummary.__dataclass_fields__
    shown = [MemberSummary(**{name: getattr(row, name) for name in names}) for row in found[:limit]]
    return MemberPage(members=shown, next=shown[-1].member_id if len(found) > limit else None)


@routes.get("/members/{member_id}", responses=ONE)
def read_member(member_id: MemberPath, caller: Reader, resources: Resources) -> MemberAnswer:
    """Return a member. A member sees only itself; any other number is a 404."""
    with resources.engine.begin() as tx:
        return _answer(tx, _visible(tx, member_id, caller))


@routes.patch("/members/{member_id}", responses=ONE)
def change_member(member_id: MemberPath, body: ChangeBody, caller: Teller, resources: Resources) -> MemberAnswer:
    """Change a member's phone for texts and payouts, destination of dividends, language, policy, or day's limit."""
    with resources.engine.begin() as tx:
        _visible(tx, member_id, caller)
        if body.policy is not None:
            _check_policy(tx, body.policy)
        if body.phone is not None:
            payer_hash = _hash(body.phone, resources)
            member_tables.add_phone(tx, member_id=member_id, phone=body.phone, payer_hash=payer_hash, now=utc_now())
        member_tables.change(
            tx,
            member_id,
            phone=body.phone,
            destination=body.destination,
            language=body.language,
            policy=body.policy,
            day_max_minor=body.day_max_minor,
        )
        return _answer(tx, _visible(tx, member_id, caller))


@routes.post("/members/{member_id}/phones", responses=ONE)
def add_phone(member_id: MemberPath, body: PhoneBody, caller: Teller, resources: Resources) -> MemberAnswer:
    """Add a phone, to which withdrawals may be paid as well."""
    with resources.engine.begin() as tx:
        _visible(tx, member_id, caller)
        payer_hash = _hash(body.phone, resources)
        member_tables.add_phone(tx, member_id=member_id, phone=body.phone, payer_hash=payer_hash, now=utc_now())
        return _answer(tx, _visible(tx, member_id, caller))


@routes.post("/members/{member_id}/status", responses=ONE)
def change_status(member_id: MemberPath, body: StatusBody, caller: Teller, resources: Resources) -> MemberAnswer:
    """Change the status of a member, or of one account. What is not ACTIVE neither pays nor silently receives."""
    with resources.engine.begin() as tx:
        _visible(tx, member_id, caller)
        member_tables.lock(tx, [member_id])
        if body.account is None:
            member_tables.set_status(tx, member_id, body.status, body.reason)
        else:
            member_tables.set_account(tx, member_id, body.account, body.status)
        return _answer(tx, _visible(tx, member_id, caller))


def _hash(phone: str, resources: ApiResources) -> str | None:
    return hash_of(phone, resources.phone_key) if resources.phone_key else None


def _check_policy(tx: Connection, name: str) -> None:
    known = {each.name for each in terms_tables.load_policies(tx).versions}
    if name not in known:
        detail = f"There is no policy of this name; known: {', '.join(sorted(known))}."
        raise invalid([FieldError(pointer="#/policy", detail=detail)])


def _check_same(found: MemberAnswer | MemberRow, body: MemberBody) -> None:
    """Raise Problem (409) where the number is another member's."""
    differing = [name for name in ("name", "phone") if getattr(found, name) != getattr(body, name)]
    if differing:
        raise Problem(
            status=409,
            title="The number is taken",
            detail=f"There is a member {body.member_id} with another {differing[0]}; choose another number.",
            type="urn:baraza:problem:member-exists",
        )


def _visible(tx: Connection, member_id: str, caller: Principal) -> MemberRow:
    found = member_tables.load(tx, [member_id]).get(member_id) if may_see(caller, member_id) else None
    if found is None:
        raise no_member(member_id)
    return found


def _answer(tx: Connection, row: MemberRow) -> MemberAnswer:
    names = [name for name in MemberAnswer.__dataclass_fields__ if name not in ("accounts", "phones")]
    return MemberAnswer(
        **{name: getattr(row, name) for name in names},
        accounts=member_tables.statuses(tx, [row.member_id])[row.member_id],
        phones=[each.phone for each in member_tables.phones(tx, row.member_id)],
    )
