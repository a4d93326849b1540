"""The steps at gateways whose outcome is proven later: an authorization, its capture or void, and a refund."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from chassis.saga.attempts import AwaitedPolicy
from chassis.saga.ladder import Ladder
from chassis.saga.steps import AwaitedCall, AwaitedCompensation, AwaitedStep, Handler, StrayAttempt
from messages.payment import AuthorizationVoided, VoidAuthorization
from payment.gateways.port import Authorize, Capture, CaptureLater, Refund, Void, gateway_id
from payment.gateways.registry import Gateways
from payment.merchants import domain
from payment.merchants.domain import Act, AuthorizeGateway, CaptureOrVoid, MerchantPayments, RefundGateway
from payment.merchants.tables import (
    add_requested,
    add_requested_refunds,
    begin_acts,
    find_payments,
    find_payments_of_sagas,
    load_payments,
    load_refunds,
    load_voided,
    save_payments,
)
from payment.sagas import merchant_payment

AUTHORIZE_GATEWAY, CAPTURE_OR_VOID, REFUND_GATEWAY = "authorize_gateway", "capture_or_void", "refund_gateway"

CALL_DURATION: Final = timedelta(seconds=6)
"""From the beginning of a call until nothing of it can be under way: 4 s for the client, the rest for the wait for the
limit of requests and for the network."""
SENDS_WITHIN: Final = timedelta(hours=20)
"""Stripe may delete a key after 24 hours, and a deleted key executes again. Adyen keeps keys for a week."""
SENDS_MAX: Final = 12
WAITS_S = (2, 5, 15, 30, 60, 120, 300, 900, 3_600, 3 * 3_600, 6 * 3_600)
DAY_S: Final = 86_400
AUTHORIZATION_POLICY = AwaitedPolicy(
    no_return=False,
    can_cancel=True,
    attempts_max=3,
    sends_max=SENDS_MAX,
    sends_within=SENDS_WITHIN,
    void_is_final=True,
    settles_by_sending=True,
)
AUTHORIZING = Ladder(waits_s=WAITS_S, ends_after_s=7 * DAY_S)
CAPTURING = Ladder(waits_s=WAITS_S, ends_after_s=7 * DAY_S)
REFUNDING = Ladder(waits_s=(*WAITS_S, DAY_S), ends_after_s=14 * DAY_S)
"""Banks take days for a refund; the step is expected within seven."""


def authorizations(requests: Sequence[AuthorizeGateway], tx: Connection) -> Mapping[str, Authorize]:
    """Store the payments whose authorization is requested, and return the requests by saga id."""
    add_requested(requests, tx)
    return {
        each.saga_id: Authorize(
            account=each.account,
            payment_id=each.payment_id,
            amount_minor=each.amount_minor,
            currency=each.currency,
            token=each.token,
            payer=each.payer,
        )
        for each in requests
    }


def captures_and_voids(
    requests: Sequence[CaptureOrVoid], tx: Connection
) -> Mapping[str, Capture | Void | CaptureLater]:
    """Return the captures and voids to request, by saga id."""
    payments = find_payments(tx, {each.payment_id for each in requests})
    begin_acts(requests, tx)
    return {each.saga_id: _capture_or_void(each, payments) for each in requests}


def _capture_or_void(request: CaptureOrVoid, payments: MerchantPayments) -> Capture | Void | CaptureLater:
    payment = payments.of(request.payment_id)
    found = payment.gateway_payment_id or ""
    match request.act:
        case Act.CAPTURE_LATER:
            return CaptureLater(gateway=payment.gateway, gateway_payment_id=found, currency=request.currency)
        case Act.VOID:
            return _void(request.payment_id, payments)
        case Act.CAPTURE:
            return Capture(
                account=payment.account,
                payment_id=request.payment_id,
                gateway_payment_id=found,
                amount_minor=request.amount_minor,
                currency=request.currency,
            )


def refunds(requests: Sequence[RefundGateway], tx: Connection) -> Mapping[str, Refund]:
    """Store the refunds that are requested, and return the requests by saga id."""
    payments = find_payments(tx, {each.payment_id for each in requests})
    add_requested_refunds(requests, tx)
    return {
        each.saga_id: Refund(
            account=payments.of(each.payment_id).account,
            payment_id=each.payment_id,
            refund_id=each.refund_id,
            gateway_payment_id=payments.of(each.payment_id).gateway_payment_id or "",
            amount_minor=each.amount_minor,
            currency=each.currency,
        )
        for each in requests
    }


def voids(commands: Sequence[VoidAuthorization], tx: Connection) -> Mapping[str, Void]:
    """Return the authorizations to cancel, by saga id."""
    payments = find_payments_of_sagas(tx, {each.saga_id for each in commands})
    return {each.saga_id: _void(payments.of_saga(each.saga_id).payment_id, payments) for each in commands}


def stray_voids(strays: Sequence[StrayAttempt], tx: Connection) -> Mapping[str, Void]:
    """Return the authorizations to cancel that belong to no step, by saga id."""
    payments = find_payments_of_sagas(tx, {each.saga_id for each in strays})
    found = {}
    for each in strays:
        payment = payments.of_saga(each.saga_id)
        found[each.saga_id] = Void(
            account=payment.account,
            payment_id=payment.payment_id,
            gateway_payment_id=gateway_id(each.provider_id),
            amount_minor=payment.amount_minor,
            currency=payment.currency,
        )
    return found


def _void(payment_id: int, payments: MerchantPayments) -> Void:
    payment = payments.of(payment_id)
    return Void(
        account=payment.account,
        payment_id=payment.payment_id,
        gateway_payment_id=payment.gateway_payment_id,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
    )


def steps(gateways: Gateways) -> tuple[Handler, ...]:
    """Return the steps, which call these gateways."""
    return (_authorizing(gateways), _capturing(gateways), _refunding(gateways))


def _authorizing(gateways: Gateways) -> AwaitedStep[AuthorizeGateway, Authorize, MerchantPayments]:
    voiding = AwaitedCall(prepare=voids, send=gateways.send, query_of=gateways.query, duration=CALL_DURATION)
    return AwaitedStep(
        name=AUTHORIZE_GATEWAY,
        triggers=(merchant_payment.AUTHORIZATION,),
        policy=AUTHORIZATION_POLICY,
        ladder=AUTHORIZING,
        call=AwaitedCall(
            prepare=authorizations,
            send=gateways.send,
            query_of=gateways.query,
            cancel_of=gateways.cancel,
            duration=CALL_DURATION,
        ),
        load=load_payments,
        judge=domain.judge_authorization,
        record=domain.record_authorization,
        save=save_payments,
        compensation=AwaitedCompensation(
            on=VoidAuthorization,
            undoes=(AUTHORIZE_GATEWAY,),
            call=voiding,
            load=load_voided,
            decide=domain.void,
            save=save_payments,
            replies=(AuthorizationVoided,),
            sends_max=SENDS_MAX,
            ladder=AUTHORIZING,
        ),
        undo_stray=AwaitedCall(
            prepare=stray_voids, send=gateways.send, query_of=gateways.query, duration=CALL_DURATION
        ),
    )


def _capturing(gateways: Gateways) -> AwaitedStep[CaptureOrVoid, Capture | Void | CaptureLater, MerchantPayments]:
    return AwaitedStep(
        name=CAPTURE_OR_VOID,
        triggers=(merchant_payment.CAPTURE, merchant_payment.CAPTURE_LATER, merchant_payment.VOID),
        policy=AwaitedPolicy(no_return=True, sends_max=SENDS_MAX, sends_within=SENDS_WITHIN),
        ladder=CAPTURING,
        call=AwaitedCall(
            prepare=captures_and_voids, send=gateways.send, query_of=gateways.query, duration=CALL_DURATION
        ),
        load=load_payments,
        judge=domain.judge_capture,
        record=domain.record_capture,
        save=save_payments,
        compensation=None,
    )


def _refunding(gateways: Gateways) -> AwaitedStep[RefundGateway, Refund, MerchantPayments]:
    return AwaitedStep(
        name=REFUND_GATEWAY,
        triggers=(merchant_payment.REFUND,),
        policy=AwaitedPolicy(no_return=True, sends_max=SENDS_MAX, sends_within=SENDS_WITHIN),
        ladder=REFUNDING,
        call=AwaitedCall(prepare=refunds, send=gateways.send, query_of=gateways.query, duration=CALL_DURATION),
        load=load_refunds,
        judge=domain.judge_refund,
        record=domain.record_refund,
        save=save_payments,
        compensation=None,
    )
