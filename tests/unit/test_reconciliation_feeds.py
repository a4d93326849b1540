"""Feeds are read by their columns into minor units and UTC, or refused with the line and the column."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciliation.model import exponents
from reconciliation.model.columns import FeedRefused
from reconciliation.model.lines import read_adyen, read_stripe

STRIPE = ("balance_transaction_id", "currency", "gross", "fee", "net", "reporting_category", "source_id", "created_utc")
ADYEN = (
    "Psp Reference", "Merchant Reference", "Creation Date", "TimeZone", "Type", "Modification Reference",
    "Gross Currency", "Gross Debit (GC)", "Gross Credit (GC)", "Net Currency", "Net Debit (NC)", "Net Credit (NC)",
    "Batch Number",
)  # fmt: skip


def stripe(**fields: str) -> bytes:
    row = {
        "balance_transaction_id": "txn_1", "currency": "usd", "gross": "10.00", "fee": "0.30", "net": "9.70",
        "reporting_category": "charge", "source_id": "ch_1", "created_utc": "2026-03-04 12:00:00", **fields,
    }  # fmt: skip
    return written(row)


def adyen(**fields: str) -> bytes:
    row = dict.fromkeys(ADYEN, "") | {
        "Psp Reference": "P", "Merchant Reference": "5", "Creation Date": "2026-03-04 12:00:00", "TimeZone": "UTC",
        "Type": "Settled", "Gross Currency": "USD", "Gross Credit (GC)": "10.00", "Net Currency": "USD",
        "Net Credit (NC)": "9.70", "Batch Number": "1", **fields,
    }  # fmt: skip
    return written(row)


def written(row: dict[str, str]) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, sorted(row))
    writer.writeheader()
    writer.writerow(row)
    return sink.getvalue().encode()


def test_columns_are_read_by_their_names_in_any_order_and_others_are_passed_over() -> None:
    plain, shuffled = read_stripe(stripe()), read_stripe(stripe(**{"a note": 'a, "quoted"\nline'}))
    assert plain.equals(shuffled)
    assert read_stripe(b"\xef\xbb\xbf" + stripe()).equals(plain)


@pytest.mark.parametrize(
    ("gateway", "currency", "text", "amount_minor"),
    [
        ("stripe", "JPY", "1500", 1_500),
        ("stripe", "KRW", "1500", 1_500),
        ("stripe", "ISK", "1500.00", 1_500),
        ("stripe", "CLP", "1500", 1_500),
        ("stripe", "MGA", "15", 1_500),
        ("stripe", "BHD", "1.500", 1_500),
        ("stripe", "USD", "42949672.96", 2**32),
        ("adyen", "JPY", "1500", 1_500),
        ("adyen", "ISK", "1500.00", 1_500),
        ("adyen", "CLP", "1500.00", 1_500),
        ("adyen", "CVE", "15", 1_500),
        ("adyen", "BHD", "1.500", 1_500),
        ("adyen", "USD", "999999999999.99", 99_999_999_999_999),
    ],
)
def test_major_units_become_minor_units_of_the_ledger(
    gateway: str, currency: str, text: str, amount_minor: int
) -> None:
    if gateway == "stripe":
        table = read_stripe(stripe(currency=currency.lower(), gross=text, fee="0", net=text))
    else:
        row = {"Gross Currency": currency, "Net Currency": currency, "Gross Credit (GC)": text, "Net Credit (NC)": text}
        table = read_adyen(adyen(**row))
    assert table["amount_minor"].to_pylist() == [amount_minor]


@given(
    amount_minor=st.integers(min_value=-(10**11), max_value=10**11),
    currency=st.sampled_from(["USD", "JPY", "BHD", "KRW", "EUR", "KWD"]),
)
def test_any_amount_is_read_back_to_the_unit(amount_minor: int, currency: str) -> None:
    text = str(Decimal(amount_minor).scaleb(-exponents.decimals_of_ours(currency)))
    if "E" in text:
        text = "0"
        amount_minor = 0
    table = read_stripe(stripe(currency=currency.lower(), gross=text, fee="0", net=text))
    assert table["amount_minor"].to_pylist() == [amount_minor]
    assert table["net_minor"].to_pylist() == [amount_minor]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (stripe(gross="10.001"), "Line 2, column gross: '10.001' is not a decimal with no more digits than stripe"),
        (stripe(currency="jpy", gross="10.5", fee="0", net="0"), "Line 2, column gross"),
        (stripe(gross="1e3"), "Line 2, column gross"),
        (stripe(gross="1,000.00"), "Line 2, column gross"),
        (stripe(gross="NaN"), "Line 2, column gross"),
        (stripe(currency="dollars"), "Line 2, column currency"),
        (stripe(created_utc="04/03/2026"), "Line 2, column created_utc"),
        (stripe(created_utc="2026-13-04 12:00:00"), "created_utc"),
        (stripe().replace(b"gross", b"grand"), "It has no column gross"),
        (b"", "It has no column"),
        (b"\x00\xff\xfe", "It has no column"),
        (adyen(TimeZone="Mars/Olympus"), "TimeZone 'Mars/Olympus' is not known"),
        (adyen(TimeZone=""), "A line has no TimeZone"),
        (adyen(**{"Net Credit (NC)": "x"}), "column Net Credit"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_refuses_the_feed_with_its_line_and_column(data: bytes, expected: str) -> None:
    reader = read_adyen if b"Psp Reference" in data else read_stripe
    with pytest.raises(FeedRefused, match=expected.replace("(", r"\(")):
        reader(data)


@pytest.mark.parametrize(
    ("zone", "local", "utc"),
    [
        ("Europe/Amsterdam", "2026-03-29 23:59:59.9", datetime(2026, 3, 29, 21, 59, 59, 900_000, tzinfo=UTC)),
        ("Europe/Amsterdam", "2026-10-25 02:30:00", datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
        ("America/Santiago", "2026-04-04 23:59:59.9", datetime(2026, 4, 5, 3, 59, 59, 900_000, tzinfo=UTC)),
        ("Australia/Lord_Howe", "2026-10-04 23:59:59.9", datetime(2026, 10, 4, 12, 59, 59, 900_000, tzinfo=UTC)),
        ("CET", "2026-07-01 12:00:00", datetime(2026, 7, 1, 10, tzinfo=UTC)),
        ("PDT", "2026-07-01 12:00:00", datetime(2026, 7, 1, 19, tzinfo=UTC)),
        ("UTC", "2026-07-01 12:00", datetime(2026, 7, 1, 12, tzinfo=UTC)),
    ],
)
def test_a_line_has_the_zone_that_it_names(zone: str, local: str, utc: datetime) -> None:
    assert read_adyen(adyen(TimeZone=zone, **{"Creation Date": local}))["occurred_at"].to_pylist() == [utc]


def test_debits_and_credits_are_signed_and_a_payout_needs_no_reference() -> None:
    refund = {"Type": "Refunded", "Gross Credit (GC)": "", "Gross Debit (GC)": "4.00", "Net Credit (NC)": "",
              "Net Debit (NC)": "4.10"}  # fmt: skip
    (row,) = read_adyen(adyen(**refund)).to_pylist()
    assert (row["movement"], row["amount_minor"], row["net_minor"]) == ("REFUND", -400, -410)
    payout = {**refund, "Type": "MerchantPayout", "Psp Reference": "", "Merchant Reference": "", "Gross Debit (GC)": ""}
    (row,) = read_adyen(adyen(**payout)).to_pylist()
    assert (row["movement"], row["payment_id"], row["gateway_payment_id"]) == ("PAYOUT", None, None)


def test_what_the_payer_saw_counts_where_the_settlement_has_another_currency() -> None:
    shown = {"customer_facing_amount": "8.00", "customer_facing_currency": "eur"}
    (row,) = read_stripe(stripe(**shown)).to_pylist()
    assert (row["currency"], row["amount_minor"], row["settlement_currency"], row["net_minor"]) == (
        "EUR",
        800,
        "USD",
        970,
    )
    (row,) = read_stripe(
        stripe(gross="-10.00", net="-10.00", fee="0", reporting_category="refund", **shown)
    ).to_pylist()
    assert row["amount_minor"] == -800


def test_a_merchants_reference_that_is_no_number_of_ours_is_none() -> None:
    for text in ("order-7", "9223372036854775808", "-5", "5.0", ""):
        assert read_adyen(adyen(**{"Merchant Reference": text}))["payment_id"].to_pylist() == [None]
    largest = str(2**63 - 1)
    assert read_adyen(adyen(**{"Merchant Reference": largest}))["payment_id"].to_pylist() == [2**63 - 1]
    assert read_adyen(adyen(**{"Merchant Reference": f"{largest}-2"}))["payment_id"].to_pylist() == [2**63 - 1]
