"""The simulated Stripe, called by Stripe's own package over real HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx
import pytest
import stripe as package

from support.merchant_gateways import DAY_S, Gateway, gateway
from support.waiting import until

DECLINES = {
    "pm_card_visa_chargeDeclined": ("card_declined", "generic_decline"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": ("card_declined", "insufficient_funds"),
    "pm_card_visa_chargeDeclinedStolenCard": ("card_declined", "stolen_card"),
    "pm_card_chargeDeclinedExpiredCard": ("expired_card", None),
    "pm_card_chargeDeclinedIncorrectCvc": ("incorrect_cvc", None),
    "pm_card_chargeDeclinedProcessingError": ("processing_error", None),
}


@pytest.fixture
def stripe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway("stripe", tmp_path_factory.mktemp("stripe")) as made:
        yield made


def client(at: Gateway, key: str | None = None) -> package.StripeClient:
    return package.StripeClient(key or at.key(at.live), base_addresses={"api": at.url}, max_network_retries=0)


def intent(at: Gateway, reference: str, *, amount: int = 1_000, method: str = "pm_card_visa", **more: Any) -> Any:
    options = more.pop("options", {})
    params = {
        "amount": amount, "currency": "usd", "capture_method": "manual", "confirm": True, "payment_method": method,
        "payment_method_types": ["card"], "metadata": {"payment_id": reference}, **more,
    }  # fmt: skip
    return client(at).v1.payment_intents.create(params, options)  # type: ignore[arg-type]


@pytest.fixture
def reference() -> str:
    return str(uuid4().int % 10**18)


def test_stripes_own_package_authorizes_captures_and_refunds_and_every_step_is_told(
    stripe: Gateway, reference: str
) -> None:
    made = intent(stripe, reference, confirm=False)
    assert (made.status, made.amount, made.amount_capturable) == ("requires_confirmation", 1_000, 0)
    held = client(stripe).v1.payment_intents.confirm(made.id, {"expand": ["latest_charge"]})
    assert (held.status, held.amount_capturable) == ("requires_capture", 1_000)
    charge: Any = held.latest_charge
    ends_at = charge.payment_method_details.card.capture_before
    assert ends_at - held.created == pytest.approx(7 * DAY_S, abs=60)
    done = client(stripe).v1.payment_intents.capture(made.id, {"metadata": {"capture_key": "k"}})
    assert (done.status, done.amount_received, done.metadata["capture_key"]) == ("succeeded", 1_000, "k")
    refund = client(stripe).v1.refunds.create({"payment_intent": made.id, "amount": 400})
    assert (refund.status, refund.amount, refund.payment_intent) == ("succeeded", 400, made.id)
    assert client(stripe).v1.refunds.retrieve(refund.id).id == refund.id
    assert [each.id for each in client(stripe).v1.refunds.list({"payment_intent": made.id}).data] == [refund.id]
    for kind in ("payment_intent.amount_capturable_updated", "charge.captured", "payment_intent.succeeded",
                 "refund.created", "charge.refunded"):  # fmt: skip
        (event,) = stripe.awaits_stripe(kind)
        assert event["data"]["object"]["metadata"].get("payment_id", reference) == reference


@pytest.mark.parametrize("method", DECLINES)
def test_a_test_card_declines_as_stripes_page_says_and_another_card_may_follow(
    stripe: Gateway, reference: str, method: str
) -> None:
    code, decline_code = DECLINES[method]
    with pytest.raises(package.CardError) as refused:
        intent(stripe, reference, method=method)
    error: Any = refused.value.error
    assert (refused.value.http_status, error.code, error.decline_code) == (402, code, decline_code)
    found = client(stripe).v1.payment_intents.retrieve(error.payment_intent.id)
    last: Any = found.last_payment_error
    assert (found.status, last.code) == ("requires_payment_method", code)
    again = client(stripe).v1.payment_intents.confirm(found.id, {"payment_method": "pm_card_visa"})
    assert again.status == "requires_capture"


def test_a_card_that_needs_the_shopper_waits_or_fails_at_once(stripe: Gateway, reference: str) -> None:
    waiting = intent(stripe, reference, method="pm_card_authenticationRequired")
    assert waiting.status == "requires_action"
    with pytest.raises(package.CardError) as refused:
        intent(stripe, reference, method="pm_card_authenticationRequired", error_on_requires_action=True)
    assert refused.value.code == "authentication_required"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"amount": 49}, "amount_too_small"),
        ({"amount": 100_000_000}, "amount_too_large"),
        ({"amount": -5}, "parameter_invalid_integer"),
        ({"amount": 0}, "parameter_invalid_integer"),
        ({"amount": 1_005, "currency": "bhd"}, "invalid_charge_amount"),
        ({"amount": 1_000, "surprise": "x"}, "parameter_unknown"),
    ],
)
def test_a_wrong_request_is_refused_with_its_code_and_its_key_may_be_used_again(
    stripe: Gateway, reference: str, params: dict[str, Any], code: str
) -> None:
    with pytest.raises(package.InvalidRequestError) as refused:
        intent(stripe, reference, **params, options={"idempotency_key": reference})
    assert (refused.value.http_status, refused.value.code) == (400, code)
    assert intent(stripe, reference, options={"idempotency_key": reference}).status == "requires_capture"


@pytest.mark.parametrize(("currency", "amount"), [("jpy", 50), ("isk", 100), ("bhd", 99_999_990), ("krw", 1)])
def test_amounts_at_the_limits_are_taken(stripe: Gateway, reference: str, currency: str, amount: int) -> None:
    assert intent(stripe, reference, amount=amount, currency=currency).amount == amount


def test_a_key_replays_its_answer_and_refuses_other_parameters(stripe: Gateway, reference: str) -> None:
    first = intent(stripe, reference, options={"idempotency_key": reference})
    again = intent(stripe, reference, options={"idempotency_key": reference})
    assert again.id == first.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(package.IdempotencyError):
        intent(stripe, reference, amount=2_000, options={"idempotency_key": reference})
    with pytest.raises(package.IdempotencyError):
        client(stripe).v1.payment_intents.cancel(first.id, {}, {"idempotency_key": reference})


def test_a_key_of_24_hours_ago_executes_again_silently(stripe: Gateway, reference: str) -> None:
    first = intent(stripe, reference, options={"idempotency_key": reference})
    stripe.pass_time(DAY_S - 60)
    assert intent(stripe, reference, options={"idempotency_key": reference}).id == first.id
    stripe.pass_time(120)
    assert intent(stripe, reference, options={"idempotency_key": reference}).id != first.id


@pytest.mark.parametrize(("kind", "happened"), [("error", False), ("error_after", True)])
def test_a_500_is_stored_under_its_key_whether_the_work_was_done_or_not(
    stripe: Gateway, reference: str, kind: str, happened: bool
) -> None:
    made = intent(stripe, reference)
    stripe.fault("capture", kind, match=reference, times=1)
    for _ in range(2):
        with pytest.raises(package.APIError) as failed:
            client(stripe).v1.payment_intents.capture(made.id, {}, {"idempotency_key": reference})
        assert failed.value.http_status == 500
    assert failed.value.headers is not None
    assert failed.value.headers["Idempotent-Replayed"] == "true"
    found = client(stripe).v1.payment_intents.retrieve(made.id)
    assert found.status == ("succeeded" if happened else "requires_capture")


def test_while_a_request_is_under_way_its_key_is_in_use_and_afterwards_it_has_the_answer(
    stripe: Gateway, reference: str
) -> None:
    stripe.fault("create", "hang", match=reference, times=1, delay_s=5)

    def create(_number: int) -> Any:
        try:
            return intent(stripe, reference, options={"idempotency_key": reference})
        except package.StripeError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(create, range(2)))
    (refused,) = [each for each in found if isinstance(each, package.StripeError)]
    (made,) = [each for each in found if each is not refused]
    error: Any = refused.error
    assert (refused.http_status, error.code) == (409, "idempotency_key_in_use")
    assert intent(stripe, reference, options={"idempotency_key": reference}).id == made.id


def test_a_lost_answer_was_done_and_a_retry_finds_it(stripe: Gateway, reference: str) -> None:
    made = intent(stripe, reference)
    stripe.fault("capture", "answer_lost", match=reference, times=1)
    with pytest.raises(package.APIConnectionError):
        client(stripe).v1.payment_intents.capture(made.id, {}, {"idempotency_key": reference})
    done = client(stripe).v1.payment_intents.capture(made.id, {}, {"idempotency_key": reference})
    assert done.status == "succeeded"


def test_captured_already_and_cancelled_already_are_unexpected_states_with_the_intent(
    stripe: Gateway, reference: str
) -> None:
    made = intent(stripe, reference)
    client(stripe).v1.payment_intents.capture(made.id)
    for again in (client(stripe).v1.payment_intents.capture, client(stripe).v1.payment_intents.cancel):
        with pytest.raises(package.InvalidRequestError) as refused:
            again(made.id)
        error: Any = refused.value.error
        assert (error.code, error.payment_intent.status) == ("payment_intent_unexpected_state", "succeeded")
    other = intent(stripe, f"{reference}1")
    client(stripe).v1.payment_intents.cancel(other.id, {"cancellation_reason": "abandoned"})
    with pytest.raises(package.InvalidRequestError) as fenced:
        client(stripe).v1.payment_intents.confirm(other.id)
    assert fenced.value.code == "payment_intent_unexpected_state"


def test_a_part_is_captured_once_and_never_more_than_is_held(stripe: Gateway, reference: str) -> None:
    made = intent(stripe, reference)
    with pytest.raises(package.InvalidRequestError) as refused:
        client(stripe).v1.payment_intents.capture(made.id, {"amount_to_capture": 1_001})
    assert refused.value.code == "amount_too_large"
    part = client(stripe).v1.payment_intents.capture(made.id, {"amount_to_capture": 600})
    assert (part.status, part.amount_received, part.amount_capturable) == ("succeeded", 600, 0)


def test_refunds_are_never_more_than_was_captured_however_many_come_at_once(stripe: Gateway, reference: str) -> None:
    made = intent(stripe, reference, amount=100)
    client(stripe).v1.payment_intents.capture(made.id)
    outcomes: list[str] = []

    def refund() -> None:
        try:
            client(stripe).v1.refunds.create({"payment_intent": made.id, "amount": 60})
            outcomes.append("done")
        except package.InvalidRequestError:
            outcomes.append("refused")

    threads = [threading.Thread(target=refund) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == ["done", "refused", "refused", "refused"]
    client(stripe).v1.refunds.create({"payment_intent": made.id})
    with pytest.raises(package.InvalidRequestError) as over:
        client(stripe).v1.refunds.create({"payment_intent": made.id, "amount": 1})
    assert over.value.code == "charge_already_refunded"


def test_more_calls_than_a_second_allows_are_refused_before_their_keys_are_seen(
    tmp_path_factory: pytest.TempPathFactory, reference: str
) -> None:
    with gateway("stripe", tmp_path_factory.mktemp("limited"), requests_per_s=3) as limited:
        headers = {**limited.sent_headers(), "Idempotency-Key": reference}
        form = {"amount": "1000", "currency": "usd"}
        answers = [httpx.post(f"{limited.url}/v1/payment_intents", data=form, headers=headers) for _ in range(30)]
        refused = [each for each in answers if each.status_code == 429]
        assert refused
        assert {each.json()["error"]["code"] for each in refused} == {"rate_limit"}
        assert len({each.json()["id"] for each in answers if each.status_code == 200}) == 1
        other = httpx.get(
            f"{limited.url}/v1/payment_intents/pi_x", headers=limited.sent_headers(limited.key(limited.test))
        )
        assert other.status_code == 404, "each account has a limit of its own"


def test_an_unknown_key_is_refused_and_another_accounts_objects_are_not_there(stripe: Gateway, reference: str) -> None:
    with pytest.raises(package.AuthenticationError):
        client(stripe, "sk_wrong").v1.payment_intents.retrieve("pi_1")
    made = intent(stripe, reference)
    assert made.livemode is True
    with pytest.raises(package.InvalidRequestError) as hidden:
        client(stripe, stripe.key(stripe.test)).v1.payment_intents.retrieve(made.id)
    assert (hidden.value.http_status, hidden.value.code) == (404, "resource_missing")


def test_stripes_own_package_takes_the_signature_of_both_secrets_while_one_is_replaced(
    stripe: Gateway, reference: str
) -> None:
    stripe.secrets("whsec_two", "whsec_one")
    intent(stripe, reference)
    stripe.awaits_stripe("payment_intent.amount_capturable_updated")
    for webhook in stripe.hooks.got:
        for secret in ("whsec_two", "whsec_one"):
            event = package.Webhook.construct_event(webhook.body, webhook.headers["stripe-signature"], secret)
            assert event.api_version
        with pytest.raises(package.SignatureVerificationError):
            package.Webhook.construct_event(webhook.body, webhook.headers["stripe-signature"], "whsec_3")
        assert webhook.path == "/v1/callbacks/stripe-live"


def test_webhooks_come_late_twice_or_never_where_a_fault_says_so_and_again_until_they_are_taken(
    stripe: Gateway, reference: str
) -> None:
    stripe.fault("webhook", "answer_lost", match="charge.succeeded")
    stripe.fault("webhook", "hang", match="charge.captured", delay_s=0.3)
    stripe.fault("webhook", "slow", match="payment_intent.amount_capturable_updated", delay_s=1.5)
    stripe.hooks.refuses = 1
    made = intent(stripe, reference)
    client(stripe).v1.payment_intents.capture(made.id)
    first, second = stripe.awaits_stripe("charge.captured", 2)
    assert first["id"] == second["id"]
    stripe.awaits_stripe("payment_intent.amount_capturable_updated")
    kinds = [each.json["type"] for each in stripe.hooks.got]
    assert kinds.index("charge.captured") < kinds.index("payment_intent.amount_capturable_updated")
    stripe.awaits_stripe("payment_intent.succeeded")
    assert "charge.succeeded" not in kinds
    assert stripe.admin("POST", "webhooks/resend") == {"resent": 1}
    stripe.awaits_stripe("charge.succeeded")


def test_what_nobody_captured_expires_on_day_7_and_what_fails_later_is_told(stripe: Gateway, reference: str) -> None:
    expiring = intent(stripe, reference)
    stripe.pass_time(7 * DAY_S - 60)
    assert client(stripe).v1.payment_intents.retrieve(expiring.id).status == "requires_capture"
    stripe.pass_time(120)
    (event,) = stripe.awaits_stripe("payment_intent.canceled")
    assert event["data"]["object"]["cancellation_reason"] == "automatic"
    stripe.awaits_stripe("charge.expired")
    made = intent(stripe, f"{reference}1", method="pm_card_refundFail")
    client(stripe).v1.payment_intents.capture(made.id)
    refund = client(stripe).v1.refunds.create({"payment_intent": made.id, "amount": 300})
    assert refund.status == "succeeded"
    stripe.pass_time(10)
    (failed,) = stripe.awaits_stripe("refund.failed")
    assert (failed["data"]["object"]["id"], failed["data"]["object"]["status"]) == (refund.id, "failed")
    pending = client(stripe).v1.refunds.create({"payment_intent": made.id, "amount": 1_000})
    assert pending.amount == 1_000, "what failed can be refunded again"


def test_a_dispute_is_opened_and_closed_and_blocks_refunds(stripe: Gateway, reference: str) -> None:
    made = intent(stripe, reference, amount=10_000)
    client(stripe).v1.payment_intents.capture(made.id)
    stripe.happens("dispute", reference, reason="product_not_received")
    (opened,) = stripe.awaits_stripe("charge.dispute.created")
    assert opened["data"]["object"]["payment_intent"] == made.id
    with pytest.raises(package.InvalidRequestError) as refused:
        client(stripe).v1.refunds.create({"payment_intent": made.id})
    assert refused.value.code == "charge_disputed"
    stripe.happens("dispute_won", made.id)
    (closed,) = stripe.awaits_stripe("charge.dispute.closed")
    assert closed["data"]["object"]["status"] == "won"
    stripe.close_batch()
    (rows,) = stripe.feeds().values()
    assert [row["reporting_category"] for row in rows] == ["charge", "dispute", "dispute_reversal", "fee", "payout"]


def test_everything_survives_sigkill(stripe: Gateway, reference: str) -> None:
    stripe.pass_time(1_000)
    first = intent(stripe, reference, options={"idempotency_key": reference})
    stripe.process.kill()
    stripe.process.start()
    assert intent(stripe, reference, options={"idempotency_key": reference}).id == first.id
    assert stripe.admin("GET", "clock")["ahead_s"] == pytest.approx(1_000, abs=1)


def test_the_report_has_every_balance_transaction_in_major_units_and_ends_in_the_payout(
    stripe: Gateway, reference: str
) -> None:
    part, yen = intent(stripe, reference), intent(stripe, f"{reference}1", amount=10_000, currency="jpy")
    client(stripe).v1.payment_intents.capture(part.id, {"amount_to_capture": 600})
    client(stripe).v1.payment_intents.capture(yen.id)
    client(stripe).v1.refunds.create({"payment_intent": part.id, "amount": 250})
    assert stripe.feeds() == {}, "a batch is reported when it is closed"
    before = time.gmtime(stripe.admin("GET", "clock")["now"])
    stripe.close_batch()
    ((name, rows),) = stripe.feeds().items()
    assert name.startswith(f"payout_reconciliation.itemized.5-{time.strftime('%Y-%m-%d', before)}")
    by_category = {(row["reporting_category"], row["customer_facing_currency"]): row for row in rows}
    whole = by_category["charge", "usd"]
    assert (whole["gross"], whole["fee"], whole["net"]) == ("10.00", "0.47", "9.53")
    assert by_category["partial_capture_reversal", "usd"]["gross"] == "-4.00"
    assert by_category["refund", "usd"]["gross"] == "-2.50"
    converted = by_category["charge", "jpy"]
    assert (converted["customer_facing_amount"], converted["currency"]) == ("10000", "usd")
    assert converted["gross"] == "67.00"
    assert {row["payment_metadata[payment_id]"] for row in rows} == {reference, f"{reference}1", ""}
    payout = by_category["payout", ""]
    total = sum(Decimal(row["net"]) for row in rows)
    assert total == 0
    assert Decimal(payout["net"]) < 0
    assert {row["automatic_payout_id"] for row in rows} == {payout["source_id"]}
    (paid,) = stripe.awaits_stripe("payout.paid")
    assert paid["data"]["object"]["id"] == payout["source_id"]
    assert Decimal(paid["data"]["object"]["amount"]) / 100 == -Decimal(payout["net"])


def test_a_day_ends_at_midnight_and_its_batch_with_it(stripe: Gateway, reference: str) -> None:
    client(stripe).v1.payment_intents.capture(intent(stripe, reference).id)
    stripe.pass_time(DAY_S)
    until(lambda: stripe.feeds(), "the report of the day", holds=lambda found: len(found) == 1, within_s=20)
