"""Where staff read what became of a merchant's payment at its gateway, and what gateways have reported."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Engine, text

from chassis.http.auth import Principal, require
from chassis.http.fields import Remark
from chassis.http.json_body import JsonRoute
from chassis.http.problem import PROBLEM_RESPONSES, Problem
from payment.gateways.notices import NUMBER, payment_id_in
from payment.merchants.notices_table import NoticeFate, close

LISTED_MAX = 500
Staff = Annotated[Principal, Depends(require("support", "operator", "finance"))]
Operator = Annotated[Principal, Depends(require("operator"))]
PaymentId = Annotated[str, Path(pattern=f"^{NUMBER.pattern}$")]
NoticeId = Annotated[str, Path(pattern=r"^[0-9A-Za-z_:-]{1,128}$")]

FIND = text("""
    SELECT CAST(payment_id AS text) AS payment_id, saga_id, merchant_id, is_live, account, gateway, gateway_payment_id,
           currency, amount_minor, state, authorized_minor, captured_minor, refunded_minor, expires_at, updated_at
    FROM merchant_payments WHERE payment_id = :payment_id
""")

REFUNDS = text("""
    SELECT CAST(refund_id AS text) AS refund_id, saga_id, amount_minor, state, gateway_refund_id, updated_at
    FROM merchant_refunds WHERE payment_id = :payment_id ORDER BY refund_id
""")

REVERSALS = text("""
    SELECT reversal_id, kind, gateway_reference, reversed_minor, CAST(refund_id AS text) AS refund_id, reason,
           reported_at
    FROM gateway_reversals WHERE payment_id = :payment_id ORDER BY reported_at, reversal_id
""")

NOTICES = text("""
    SELECT id, account, event, received_at, fate, kind, gateway_payment_id, CAST(payment_id AS text) AS payment_id,
           gateway_reference, amount_minor, currency, reason, decide_at, closed_by, closed_reason
    FROM gateway_notices WHERE fate = :fate ORDER BY received_at, id LIMIT :limit
""")


class RefundAnswer(BaseModel):
    """One refund of a payment."""

    refund_id: str
    saga_id: str
    amount_minor: int
    state: str
    gateway_refund_id: str | None
    updated_at: datetime


class ReversalAnswer(BaseModel):
    """What a gateway took back of a payment."""

    reversal_id: str
    kind: str
    gateway_reference: str
    reversed_minor: int
    refund_id: str | None
    reason: str
    reported_at: datetime


class MerchantPaymentAnswer(BaseModel):
    """One merchant's payment at its gateway. Amounts are in ISO's minor units."""

    payment_id: str
    saga_id: str
    merchant_id: str
    is_live: bool
    account: str
    gateway: str
    gateway_payment_id: str | None
    currency: str
    amount_minor: int
    state: str
    authorized_minor: int
    captured_minor: int
    refunded_minor: int
    expires_at: datetime | None
    updated_at: datetime
    refunds: list[RefundAnswer]
    reversals: list[ReversalAnswer]


class NoticeAnswer(BaseModel):
    """One item of a gateway's webhook. ``decide_at`` is when a report is looked at again."""

    id: str
    account: str
    event: str
    received_at: datetime
    fate: NoticeFate
    kind: str | None
    gateway_payment_id: str | None
    payment_id: str | None
    gateway_reference: str | None
    amount_minor: int | None
    currency: str | None
    reason: str | None
    decide_at: datetime | None
    closed_by: str | None
    closed_reason: str | None


class NoticeClosing(BaseModel):
    """What was done about a report that did not fit its payment."""

    model_config = ConfigDict(extra="forbid")

    reason: Remark


class NoticeList(BaseModel):
    """Items of webhooks, the oldest first."""

    notices: list[NoticeAnswer]


def routes(engine: Engine) -> APIRouter:
    """Return the routes."""
    router = APIRouter(route_class=JsonRoute, tags=["merchants' payments"])

    @router.get(
        "/v1/merchant-payments/{payment_id}",
        responses={s: PROBLEM_RESPONSES[s] for s in (401, 403, 404, 422, 500, 503)},
    )
    def get_merchant_payment(payment_id: PaymentId, _caller: Staff) -> MerchantPaymentAnswer:
        """Return what became of a merchant's payment at its gateway, with its refunds and reversals."""
        values = {"payment_id": payment_id_in(payment_id) or 0}
        with engine.connect() as tx:
            row = tx.execute(FIND, values).mappings().one_or_none()
            refunds = tx.execute(REFUNDS, values).mappings().all()
            reversals = tx.execute(REVERSALS, values).mappings().all()
        if not row:
            raise Problem(status=404, detail=f"Payment {payment_id} is not known here.")
        return MerchantPaymentAnswer(
            **row,
            refunds=[RefundAnswer(**each) for each in refunds],
            reversals=[ReversalAnswer(**each) for each in reversals],
        )

    @router.get("/v1/gateway-notices", responses={s: PROBLEM_RESPONSES[s] for s in (401, 403, 422, 500, 503)})
    def list_gateway_notices(
        _caller: Staff, fate: NoticeFate = NoticeFate.WAITING, limit: Annotated[int, Query(ge=1, le=LISTED_MAX)] = 200
    ) -> NoticeList:
        """Return the items of gateways' webhooks with this fate: those that wait, or that a person decides about."""
        with engine.connect() as tx:
            rows = tx.execute(NOTICES, {"fate": fate.value, "limit": limit}).mappings().all()
        return NoticeList(notices=[NoticeAnswer(**each) for each in rows])

    _add_closing(router, engine)
    return router


def _add_closing(router: APIRouter, engine: Engine) -> None:
    @router.post(
        "/v1/gateway-notices/{notice_id}/closing",
        status_code=204,
        responses={s: PROBLEM_RESPONSES[s] for s in (400, 401, 403, 409, 413, 415, 422, 500, 503)},
    )
    def close_gateway_notice(notice_id: NoticeId, closing: NoticeClosing, operator: Operator) -> None:
        """Record what was done about a strange report. It books nothing: put the money right first."""
        with engine.begin() as tx:
            is_closed = close(tx, notice_id, by=operator.actor, reason=closing.reason)
        if not is_closed:
            raise Problem(status=409, detail=f"No report {notice_id} is strange; read the list of those that are.")
