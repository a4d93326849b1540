"""Merchant's HTTP API for merchants themselves: their registration, their API keys, and tokens for a key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy import Connection

from chassis.http.auth import Principal
from chassis.http.json_body import JsonRoute
from chassis.http.problem import Problem, invalid
from chassis.postgres.transient import utc_now
from chassis.saga import outbox
from chassis.saga.outbox import OutboxRow
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from merchant import keys, merchant_tables
from merchant.access import Merchant, MerchantOrOperator, Operator, Reader, StaffMember, is_merchant, may_see, mode_of
from merchant.bodies import KeyBody, MerchantBody, RotationBody, flaws_of
from merchant.endpoints import CHANGE, COMMON, ONE, KeyPath, MerchantPath, Resources, Trace
from merchant.intake import outbox_row
from merchant.merchant_tables import KeyRow, MerchantRow
from merchant.tokens import TTL_S
from messages.merchant import MerchantRegistered

KEYS_MAX: Final = 10
"""Valid keys of a merchant in one mode: enough for some systems and a rotation of each."""
PAGE_SIZE_MAX: Final = 500
SAGA_TYPE, SAGA_VERSION = "merchant_onboarding", 1
NO_STORE: Final = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceAnswer:
    """What we keep of a payment."""

    basis_points: int
    fixed_minor: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantAnswer:
    """A merchant. Its payments are taken while its state is ACTIVE."""

    merchant_id: str
    name: str
    state: str
    failure_reason: str | None
    currencies: list[str]
    price: PriceAnswer
    amount_max_minor: dict[str, int]
    registered_at: datetime
    onboarded_at: datetime | None
    closed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantPage:
    """Merchants in the order of their ids. Pass ``next`` as ``after`` for the next page; null: this is the last one."""

    merchants: list[MerchantAnswer]
    next: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAnswer:
    """An API key without the key itself, of which only ``hint``, its last letters, can be shown."""

    key_id: str
    is_live: bool
    hint: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKeyAnswer:
    """A new API key. It is shown this once: only its digest is stored."""

    key_id: str
    is_live: bool
    api_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """A token, by the names of OAuth 2.0 (RFC 6749)."""

    access_token: str
    token_type: str
    expires_in: int


routes = APIRouter(route_class=JsonRoute, prefix="/v1", responses=COMMON, tags=["merchants"])
published_keys = APIRouter(route_class=JsonRoute, tags=["tokens"])


@routes.post(
    "/merchants",
    status_code=202,
    response_model=MerchantAnswer,
    responses={**CHANGE, 200: {"description": "It was registered before.", "model": MerchantAnswer}},
)
def register_merchant(
    body: MerchantBody, caller: Operator, resources: Resources, trace: Trace, request: Request, response: Response
) -> MerchantAnswer:
    """Register a merchant under an id of your choice. Its payments are taken once its accounts are open."""
    flaws = list(flaws_of(body))
    if flaws:
        raise invalid(flaws)
    new = _new_merchant(body)
    with resources.engine.begin() as tx:
        rows = _register(tx, new, resources.codec, trace)
        found = merchant_tables.load(tx, [body.merchant_id])[body.merchant_id]
    resources.batcher.publish(rows)
    if not rows:
        _check_same(found, new)
        response.status_code = 200
    request.scope["saga_id"] = found.saga_id
    response.headers["Location"] = f"/v1/merchants/{body.merchant_id}"
    return _answer(found)


def _new_merchant(body: MerchantBody) -> dict[str, Any]:
    """Return the columns of a new merchant."""
    return {
        "merchant_id": body.merchant_id,
        "saga_id": new_id(),
        "name": body.name,
        "currencies": list(body.currencies),
        "basis_points": body.price.basis_points,
        "fixed_minor": dict(body.price.fixed_minor or {}),
        "amount_max_minor": dict(body.amount_max_minor or {}),
    }


def _register(tx: Connection, new: dict[str, Any], codec: Codec, trace: bytes) -> list[OutboxRow]:
    """Store a merchant with the event that starts its saga. Return its row; none where the id is taken."""
    now = utc_now()
    if not merchant_tables.insert(tx, new, now=now):
        return []
    event = MerchantRegistered(
        message_id=new_id(),
        saga_id=new["saga_id"],
        saga_type=SAGA_TYPE,
        saga_version=SAGA_VERSION,
        causation_id=None,
        occurred_at=now,
        merchant_id=new["merchant_id"],
        name=new["name"],
        currencies=tuple(new["currencies"]),
    )
    rows = [outbox_row(event, codec, trace)]
    outbox.save(tx, rows)
    return rows


@routes.get("/merchants", responses=COMMON)
def list_merchants(
    caller: StaffMember,
    resources: Resources,
    after: Annotated[str, Query(max_length=40, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")] = "",
    limit: Annotated[int, Query(ge=1, le=PAGE_SIZE_MAX)] = 100,
) -> MerchantPage:
    """Return a page of all merchants."""
    with resources.engine.begin() as tx:
        found = merchant_tables.page(tx, after=after, limit=limit + 1)
    shown = [_answer(each) for each in found[:limit]]
    return MerchantPage(merchants=shown, next=shown[-1].merchant_id if len(found) > limit else None)


@routes.get("/merchants/{merchant_id}", responses=ONE)
def read_merchant(merchant_id: MerchantPath, caller: Reader, resources: Resources) -> MerchantAnswer:
    """Return a merchant. A merchant sees only itself; any other id is a 404."""
    with resources.engine.begin() as tx:
        return _answer(_visible(tx, merchant_id, caller))


@routes.post("/merchants/{merchant_id}/close", responses=ONE)
def close_merchant(merchant_id: MerchantPath, caller: Operator, resources: Resources) -> MerchantAnswer:
    """Close a merchant for good: no further payments. Those under way go on, and it may still refund."""
    with resources.engine.begin() as tx:
        _visible(tx, merchant_id, caller)
        merchant_tables.close(tx, merchant_id, now=utc_now())
        return _answer(_visible(tx, merchant_id, caller))


@routes.post("/merchants/{merchant_id}/api-keys", status_code=201, responses=CHANGE)
def issue_key(
    merchant_id: MerchantPath, body: KeyBody, caller: MerchantOrOperator, resources: Resources, response: Response
) -> NewKeyAnswer:
    """Issue an API key. A merchant may issue one of its own mode."""
    _check_mode(caller, merchant_id, body.is_live)
    with resources.engine.begin() as tx:
        _visible(tx, merchant_id, caller)
        return _new_key(tx, merchant_id, response, is_live=body.is_live)


@routes.get("/merchants/{merchant_id}/api-keys", responses=ONE)
def list_keys(merchant_id: MerchantPath, caller: MerchantOrOperator, resources: Resources) -> list[KeyAnswer]:
    """Return a merchant's API keys, the oldest first; to a merchant those of its own mode."""
    with resources.engine.begin() as tx:
        _visible(tx, merchant_id, caller)
        return [
            _key(row)
            for row in merchant_tables.keys(tx, merchant_id)
            if may_see(caller, merchant_id, is_live=row.is_live)
        ]


@routes.post("/merchants/{merchant_id}/api-keys/{key_id}/rotate", status_code=201, responses=CHANGE)
def rotate_key(
    merchant_id: MerchantPath,
    key_id: KeyPath,
    body: RotationBody,
    caller: MerchantOrOperator,
    resources: Resources,
    response: Response,
) -> NewKeyAnswer:
    """Issue a key that replaces another, which works on for ``overlap_s``, so that a system changes without a gap."""
    now = utc_now()
    with resources.engine.begin() as tx:
        row = _visible_key(tx, merchant_id, key_id, caller)
        if not merchant_tables.expire_key(tx, merchant_id, key_id, at=now + timedelta(seconds=body.overlap_s)):
            raise Problem(
                status=409, detail="The key has expired or is revoked, so it cannot be replaced; issue another one."
            )
        return _new_key(tx, merchant_id, response, is_live=row.is_live, replaces=key_id)


@routes.delete("/merchants/{merchant_id}/api-keys/{key_id}", responses=ONE)
def revoke_key(
    merchant_id: MerchantPath, key_id: KeyPath, caller: MerchantOrOperator, resources: Resources
) -> KeyAnswer:
    """Revoke an API key. It is refused from now on, by processes that have just used it a few seconds later."""
    with resources.engine.begin() as tx:
        _visible_key(tx, merchant_id, key_id, caller)
        merchant_tables.revoke_key(tx, merchant_id, key_id, now=utc_now())
        return _key(_visible_key(tx, merchant_id, key_id, caller))


@routes.post("/tokens", tags=["tokens"], responses=COMMON)
async def issue_token(caller: Merchant, resources: Resources, request: Request, response: Response) -> TokenAnswer:
    """Exchange an API key for a token of some minutes, with which other services know the merchant and the mode."""
    sent = request.headers["authorization"].partition(" ")[2].strip()
    if not sent.startswith(keys.PREFIX):
        raise Problem(status=403, detail="Only an API key is exchanged for a token; send the key as bearer token.")
    if resources.tokens is None:
        raise Problem(
            status=503,
            detail="No tokens are issued here: the service has no key for them; set BARAZA_MERCHANT_TOKEN_KEY_FILE.",
            headers={"Retry-After": "60"},
        )
    mode_of(caller)
    response.headers.update(NO_STORE)
    return TokenAnswer(access_token=resources.tokens.issue(caller, utc_now()), token_type="Bearer", expires_in=TTL_S)


@published_keys.get("/.well-known/jwks.json", include_in_schema=False)
async def jwks(resources: Resources) -> dict[str, Any]:
    """Return the keys that verify merchants' tokens. They are public."""
    return {"keys": []} if resources.tokens is None else resources.tokens.published()


def _new_key(
    tx: Connection, merchant_id: str, response: Response, *, is_live: bool, replaces: str | None = None
) -> NewKeyAnswer:
    """Store a key. Raises Problem (409) where there are too many. The merchant's lock lets them be counted."""
    merchant_tables.lock(tx, merchant_id)
    now = utc_now()
    valid = [
        row
        for row in merchant_tables.keys(tx, merchant_id)
        if row.is_live == is_live and row.revoked_at is None and (row.expires_at is None or row.expires_at > now)
    ]
    if sum(row.key_id != replaces for row in valid) >= KEYS_MAX:
        raise Problem(
            status=409, detail=f"The merchant has {KEYS_MAX} valid keys of this mode; revoke one that is not in use."
        )
    key, key_id = keys.new_key(is_live=is_live), new_id()
    merchant_tables.insert_key(
        tx,
        key_id=key_id,
        merchant_id=merchant_id,
        is_live=is_live,
        digest=keys.digest_of(key),
        hint=keys.hint_of(key),
        now=now,
    )
    response.headers.update(NO_STORE)
    return NewKeyAnswer(key_id=key_id, is_live=is_live, api_key=key)


def _check_mode(caller: Principal, merchant_id: str, is_live: bool) -> None:
    """Raise Problem (403) where a merchant wants a key of the other mode."""
    if is_merchant(caller) and caller.subject == merchant_id and mode_of(caller) != is_live:
        raise Problem(status=403, detail="A key of one mode makes none of the other; use a key of that mode.")


def _check_same(found: MerchantRow, new: dict[str, Any]) -> None:
    """Raise Problem (409) where the id is taken by another merchant."""
    if any(getattr(found, name) != new[name] for name in new if name != "saga_id"):
        raise Problem(
            status=409,
            title="The id is taken",
            detail=f"There is a merchant {found.merchant_id} with other values; choose another id, or read it.",
            type="urn:baraza:problem:merchant-exists",
        )


def _visible(tx: Connection, merchant_id: str, caller: Principal) -> MerchantRow:
    found = merchant_tables.load(tx, [merchant_id]).get(merchant_id) if may_see(caller, merchant_id) else None
    if found is None:
        raise Problem(status=404, detail=f"There is no merchant {merchant_id} of yours; check its id.")
    return found


def _visible_key(tx: Connection, merchant_id: str, key_id: str, caller: Principal) -> KeyRow:
    _visible(tx, merchant_id, caller)
    found = next((row for row in merchant_tables.keys(tx, merchant_id) if row.key_id == key_id), None)
    if found is None or not may_see(caller, merchant_id, is_live=found.is_live):
        raise Problem(status=404, detail=f"There is no API key {key_id} of yours; list them, and check the mode.")
    return found


def _answer(row: MerchantRow) -> MerchantAnswer:
    return MerchantAnswer(
        merchant_id=row.merchant_id,
        name=row.name,
        state=row.state,
        failure_reason=row.failure_reason,
        currencies=list(row.currencies),
        price=PriceAnswer(basis_points=row.basis_points, fixed_minor=dict(row.fixed_minor)),
        amount_max_minor=dict(row.amount_max_minor),
        registered_at=row.registered_at,
        onboarded_at=row.onboarded_at,
        closed_at=row.closed_at,
    )


def _key(row: KeyRow) -> KeyAnswer:
    return KeyAnswer(
        key_id=row.key_id,
        is_live=row.is_live,
        hint=row.hint,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
