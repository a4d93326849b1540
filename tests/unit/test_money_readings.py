"""Amounts, times, phones, codes and ids of providers of mobile money, in every form that was seen."""

from __future__ import annotations

import hashlib
import itertools
from datetime import UTC, datetime

import pytest

from chassis.http.downstream import NotTried
from mobile_money import codes, daraja_bodies, readings
from mobile_money.codes import Meaning
from mobile_money.limiter import Limiter
from mobile_money.reports import Balances, End, Payment, Queued
from mobile_money.statements import InvalidStatement, RowKind, parse

AT = datetime(2026, 11, 29, 9, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize("value", [1, "1", 1.0, "1.00", " 1 ", "1.0"])
def test_an_amount_is_whole_shillings_in_whatever_form(value: object) -> None:
    assert readings.amount_minor(value) == 100


@pytest.mark.parametrize("value", ["1.50", 0.01, "x", None, True, "NaN", "1e99", [], "Infinity"])
def test_an_amount_with_a_fraction_or_of_another_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="amount"):
        readings.amount_minor(value)


@pytest.mark.parametrize(
    "value", [20261129120030, "20261129120030", "29.11.2026 12:00:30", "2026-11-29 12:00:30", "2026-11-29T12:00:30.00Z"]
)
def test_every_form_of_a_time_is_nairobis(value: object) -> None:
    assert readings.time_of(value) == AT


@pytest.mark.parametrize(
    "written",
    ["0712345678", "712345678", "254712345678", "+254 712 345 678", "+254-712-345-678", "0712 345678", "254712345678 "],
)
def test_a_phone_is_twelve_digits_however_it_is_written(written: str) -> None:
    assert readings.phone_of(written) == "254712345678"
    assert readings.phone_of("0112345678") == readings.phone_of("112345678") == "254112345678"


@pytest.mark.parametrize(
    "written", ["2550712345678", "25471234567", "0812345678", "", "+1 202 555 0100", "07123456789"]
)
def test_what_is_no_phone_of_kenya_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="phone"):
        readings.phone_of(written)


def test_a_payers_hash_is_the_same_of_a_phone_and_of_its_hash_and_none_of_a_mask() -> None:
    hashed = hashlib.sha256(b"254712345678").hexdigest()
    assert readings.payer_hash(b"k", "0712345678") == readings.payer_hash(b"k", hashed.upper())
    assert readings.payer_hash(b"k", "2547****678") is None


@pytest.mark.parametrize(
    ("value", "code"), [(0, "0"), ("0", "0"), (0.0, "0"), ("SFC_IC0003", "SFC_IC0003"), (None, "")]
)
def test_a_code_is_text_whether_it_comes_as_a_number_or_not(value: object, code: str) -> None:
    assert readings.code_of(value) == code


def test_our_ids_of_an_attempt_are_derived_and_fit_the_providers_forms() -> None:
    first, second = readings.originator_of("saga:send_payout"), readings.originator_of("saga:send_payout:2")
    assert first == readings.originator_of("saga:send_payout") != second
    assert (len(first), first.isalnum(), first[0]) == (20, True, "B")
    reference = readings.reference_of("saga:send_payout")
    assert (len(reference), reference[14], reference[19] in "89ab") == (36, "4", True)


@pytest.mark.parametrize("code", ["", "4711", "0x", "R999", "500000000"])
def test_an_unknown_code_is_uncertain_everywhere(code: str) -> None:
    for table in (codes.PROMPT, codes.PAYOUT, codes.REVERSAL):
        assert table.get(code, codes.UNKNOWN).meaning is Meaning.UNCERTAIN


def test_one_code_is_the_payers_pin_for_a_prompt_and_our_initiator_for_a_payout() -> None:
    assert codes.PROMPT["2001"].meaning is Meaning.REFUSED
    assert codes.PAYOUT["2001"].meaning is Meaning.OURS


@pytest.mark.parametrize(
    ("code", "text", "meaning"),
    [
        ("500.001.1001", "The transaction is being processed", Meaning.UNCERTAIN),
        ("500.001.1001", "Unable to lock subscriber, a transaction is already in process", Meaning.REFUSED),
        ("500.001.1001", "Wrong credentials", Meaning.OURS),
        ("500.001.1001", "[MerchantValidate] - Merchant does not exist", Meaning.OURS),
        ("500.002.1001", "Duplicate OriginatorConversationID", Meaning.DUPLICATE),
        ("500.002.1001", "Internal Server Error", Meaning.UNCERTAIN),
        ("404.001.03", "Invalid Access Token", Meaning.OURS),
        ("500.003.02", "Error Occurred: Spike Arrest Violation", Meaning.UNCERTAIN),
    ],
)
def test_an_error_means_what_its_code_and_for_one_code_its_text_says(code: str, text: str, meaning: Meaning) -> None:
    assert codes.of_error(code, text).meaning is meaning


def test_a_failing_result_with_a_single_parameter_and_a_placeholder_is_read() -> None:
    body = {
        "Result": {
            "ResultCode": "2040", "ResultDesc": "x", "OriginatorConversationID": "B1", "TransactionID": "SFF0000000",
            "ResultParameters": {"ResultParameter": {"Key": "a", "Value": 1}},
            "ReferenceData": {"ReferenceItem": [{"Key": "k"}]},
        }
    }  # fmt: skip
    found = daraja_bodies.read("b2c", body)
    assert isinstance(found, End)
    assert (found.own_id, found.code.meaning, found.receipt) == ("B1", Meaning.REFUSED, None)
    assert daraja_bodies.read("b2c-timeout", {"OriginatorConversationID": "B1", "Amount": 1}) == Queued(own_id="B1")


def test_a_prompts_items_come_in_any_order_and_a_balance_has_no_value() -> None:
    items = [
        {"Name": "TransactionDate", "Value": 20261129120030}, {"Name": "Balance"},
        {"Name": "MpesaReceiptNumber", "Value": " sfx0000001 "}, {"Name": "Amount", "Value": "5.00"},
    ]  # fmt: skip
    callback = {"CheckoutRequestID": "ws_CO_1", "ResultCode": "0", "CallbackMetadata": {"Item": items}}
    found = daraja_bodies.read("stk", {"Body": {"stkCallback": callback}})
    assert isinstance(found, Payment)
    assert (found.receipt, found.amount_minor, found.reference, found.payer) == ("SFX0000001", 500, None, None)
    with pytest.raises(ValueError, match="receipt"):
        daraja_bodies.read("stk", {"Body": {"stkCallback": {**callback, "CallbackMetadata": {"Item": items[:2]}}}})


def test_balances_are_one_text_and_charges_are_what_we_owe() -> None:
    shown = "Working Account|KES|700.00|700.00|0.00|0.00&Utility Account|KES|228,037.00|228037.00|0.00|0.00&"
    shown += "Charges Paid Account|KES|-1540.00|-1540.00|0.00|0.00"
    parameters = [{"Key": "AccountBalance", "Value": shown}, {"Key": "BOCompletedTime", "Value": 20261129120030}]
    result = {"ResultCode": "0", "ConversationID": "AG_1", "ResultParameters": {"ResultParameter": parameters}}
    found = daraja_bodies.read("balance", {"Result": result})
    assert found == Balances(
        question_id="AG_1", utility_minor=22_803_700, working_minor=70_000, charges_minor=154_000, at=AT
    )


def test_a_statement_is_read_by_its_headers_whatever_their_order_and_the_lines_before_them() -> None:
    older = "Receipt,Date,Details,Status,Withdrawn,Paid In,Balance,Balance Confirmed,Transaction Type\n"
    rows = (
        'SAA0000001,2026-11-29 12:00:00,Pay,Completed,,"1,000.00","1,000.00",TRUE,Pay Bill\n'
        "SAA0000002,2026-11-29 12:00:01,Out,Completed,-300.00,,700.00,TRUE,Business Payment\n"
        "SAA0000002,2026-11-29 12:00:01,Charge,Completed,-9.00,,691.00,TRUE,Business Payment Charge\n"
        "SAA0000003,2026-11-29 12:00:02,Pay,Pending,,5.00,691.00,TRUE,Pay Bill\n"
    )
    found = parse("Statement\n\n" + older + rows + rows.splitlines()[0] + "\n")
    assert [(row.kind, row.amount_minor) for row in found.rows] == [
        (RowKind.IN, 100_000), (RowKind.OUT, -30_000), (RowKind.CHARGE, -900),
    ]  # fmt: skip
    assert found.gaps == 0
    newest_first = older + "\n".join(reversed(rows.splitlines()))
    assert [row.receipt for row in parse(newest_first).rows] == ["SAA0000001", "SAA0000002", "SAA0000002"]
    assert parse(newest_first).gaps == 0
    assert parse(older + "\n".join(rows.splitlines()[::2])).gaps == 1
    for flawed in ("", "a,b\n1,2", older + "SAA,x,Pay,Completed,,1,1,T,P"):
        with pytest.raises(InvalidStatement):
            parse(flawed)


class Clock:
    """A clock that moves as long as is slept."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def test_members_have_a_turn_at_once_beside_dividends_that_take_all_that_is_left() -> None:
    clock = Clock()
    limiter = Limiter("daraja", 10, 0.3, clock=clock, sleep=clock.sleep)
    for _ in range(30):
        limiter.wait(is_bulk=True)
    took_s = clock.now_s - 100.0
    assert took_s >= 30 / 7 - 0.5, "dividends have seven tenths of the rate"
    before = clock.now_s
    limiter.wait(is_bulk=False)
    assert clock.now_s - before <= 0.2


def test_all_requests_together_stay_within_the_rate_of_the_process_and_its_share() -> None:
    clock = Clock()
    limiter = Limiter("daraja", 10, 0.3, clock=clock, sleep=clock.sleep)
    limiter.share(2)
    kinds = itertools.cycle([True, False])
    for _ in range(40):
        limiter.wait(is_bulk=next(kinds))
    assert clock.now_s - 100.0 >= 40 / 5 - 2.0


def test_who_would_wait_too_long_is_not_tried_and_a_spike_halves_the_rate() -> None:
    clock = Clock()
    limiter = Limiter("daraja", 1, 0.3, clock=clock, sleep=lambda _seconds: None)
    limiter.wait(is_bulk=False)
    limiter.wait(is_bulk=False)
    with pytest.raises(NotTried):
        limiter.wait(is_bulk=False)
    limiter.slow_down()
    assert (limiter.calls_per_s, limiter.is_slowed) == (0.5, True)
