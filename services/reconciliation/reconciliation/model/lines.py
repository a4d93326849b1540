"""The lines of any gateway's feed in one form, and the readers that bring them into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from reconciliation.model import columns
from reconciliation.model.columns import Text
from reconciliation.model.kinds import Movement

SCHEMA: Final = pa.schema(
    [
        ("number", pa.int32()),
        ("line_id", pa.string()),
        ("category", pa.string()),
        ("movement", pa.string()),
        ("is_principal", pa.bool_()),
        ("payment_id", pa.int64()),
        ("gateway_payment_id", pa.string()),
        ("reference", pa.string()),
        ("currency", pa.string()),
        ("amount_minor", pa.int64()),
        ("settlement_currency", pa.string()),
        ("fee_minor", pa.int64()),
        ("net_minor", pa.int64()),
        ("batch", pa.string()),
        ("occurred_at", pa.timestamp("us", "UTC")),
    ]
)
"""``line_id`` is the same wherever the gateway delivers the line again. ``amount_minor`` is signed, in the currency of
the payment; ``fee_minor`` and ``net_minor`` are in that of the payout. ``is_principal`` is true of a line that is a
movement by itself, and false of one that only corrects another: a partial capture has one of each."""

Reader: TypeAlias = Callable[[bytes], pa.Table]
STRIPE_CATEGORIES: Final[Mapping[str, tuple[Movement, bool]]] = {
    "charge": (Movement.CAPTURE, True),
    "partial_capture_reversal": (Movement.CAPTURE, False),
    "charge_failure": (Movement.CAPTURE, False),
    "refund": (Movement.REFUND, True),
    "refund_failure": (Movement.REFUND, False),
    "dispute": (Movement.DISPUTE, True),
    "dispute_reversal": (Movement.DISPUTE, False),
    **dict.fromkeys(("fee", "network_cost", "contribution", "tax"), (Movement.COST, True)),
    **dict.fromkeys(("payout", "payout_reversal"), (Movement.PAYOUT, True)),
    **dict.fromkeys(("transfer", "transfer_reversal", "topup", "topup_reversal"), (Movement.TRANSFER, True)),
}
ADYEN_TYPES: Final[Mapping[str, tuple[Movement, bool]]] = {
    "Settled": (Movement.CAPTURE, True),
    "SettledReversed": (Movement.CAPTURE, False),
    "Refunded": (Movement.REFUND, True),
    "RefundedReversed": (Movement.REFUND, False),
    "Chargeback": (Movement.DISPUTE, True),
    "SecondChargeback": (Movement.DISPUTE, True),
    "ChargebackReversed": (Movement.DISPUTE, False),
    **dict.fromkeys(("Fee", "MiscCosts", "InvoiceDeduction", "PaymentCost"), (Movement.COST, True)),
    "MerchantPayout": (Movement.PAYOUT, True),
    "Balancetransfer": (Movement.TRANSFER, True),
}
UNKNOWN: Final = (Movement.OTHER, True)
"""A category that is not listed is money that no entry explains; a person looks at it."""
ADYEN_FEES: Final = ("Commission (NC)", "Markup (NC)", "Scheme Fees (NC)", "Interchange (NC)")


def read_stripe(data: bytes) -> pa.Table:
    """Return the lines of a report of balance changes, itemized. Raises FeedRefused."""
    raw = columns.read(
        data,
        required=("balance_transaction_id", "currency", "gross", "fee", "net", "reporting_category", "source_id"),
        optional=(
            "created", "created_utc", "payment_intent_id", "charge_id", "automatic_payout_id",
            "customer_facing_amount", "customer_facing_currency", "payment_metadata[payment_id]",
        ),
    )  # fmt: skip
    settled = columns.currencies(raw["currency"], "currency")
    currency, amount = _faced(raw, settled)
    movement, is_principal = _classified(raw["reporting_category"], STRIPE_CATEGORIES)
    fee = columns.minor_units(raw["fee"], settled, "fee", "stripe")
    net = columns.minor_units(raw["net"], settled, "net", "stripe")
    times = columns.first_filled(raw["created_utc"], raw["created"])
    return _table(
        {
            "line_id": raw["balance_transaction_id"],
            "category": raw["reporting_category"],
            "movement": movement,
            "is_principal": is_principal,
            "payment_id": columns.payment_ids(raw["payment_metadata[payment_id]"]),
            "gateway_payment_id": columns.first_filled(raw["payment_intent_id"], raw["charge_id"]),
            "reference": columns.filled(raw["source_id"]),
            "currency": currency,
            "amount_minor": amount,
            "settlement_currency": settled,
            "fee_minor": pc.if_else(pc.equal(movement, Movement.COST), pc.negate(net), fee),
            "net_minor": net,
            "batch": _batch_of_stripe(raw, movement),
            "occurred_at": columns.utc_times(times, pa.array(["UTC"] * len(raw), pa.string()), "created_utc"),
        }
    )


def _faced(raw: pa.Table, settled: Text) -> tuple[Text, Text]:
    """Return the currency and the amount that the payer saw, signed as the gateway's own amount is."""
    gross = columns.minor_units(raw["gross"], settled, "gross", "stripe")
    facing = columns.first_filled(raw["customer_facing_currency"], raw["currency"])
    currency = columns.currencies(facing, "customer_facing_currency")
    is_other = pc.not_equal(currency, settled)
    faced = columns.minor_units(
        pc.if_else(is_other, raw["customer_facing_amount"], "0"), currency, "customer_facing_amount", "stripe"
    )
    is_out = pc.less(gross, 0)
    return currency, pc.if_else(is_other, pc.if_else(is_out, pc.negate(pc.abs(faced)), pc.abs(faced)), gross)


def _batch_of_stripe(raw: pa.Table, movement: Text) -> Text:
    """Return the payout of each line; that of a payout is the payout itself."""
    own = pc.if_else(pc.equal(movement, Movement.PAYOUT), raw["source_id"], "")
    return columns.first_filled(raw["automatic_payout_id"], own)


def read_adyen(data: bytes) -> pa.Table:
    """Return the lines of a report of settlement details. Raises FeedRefused."""
    raw = columns.read(
        data,
        required=(
            "Psp Reference", "Merchant Reference", "Creation Date", "TimeZone", "Type", "Modification Reference",
            "Gross Currency", "Gross Debit (GC)", "Gross Credit (GC)", "Net Currency", "Net Debit (NC)",
            "Net Credit (NC)", "Batch Number",
        ),
        optional=ADYEN_FEES,
    )  # fmt: skip
    settled = columns.currencies(columns.first_filled(raw["Net Currency"], raw["Gross Currency"]), "Net Currency")
    currency = columns.currencies(columns.first_filled(raw["Gross Currency"], raw["Net Currency"]), "Gross Currency")
    amount = _balance(raw, currency, "Gross Credit (GC)", "Gross Debit (GC)")
    net = _balance(raw, settled, "Net Credit (NC)", "Net Debit (NC)")
    movement, is_principal = _classified(raw["Type"], ADYEN_TYPES)
    fees = [columns.minor_units(raw[name], settled, name, "adyen") for name in ADYEN_FEES]
    fee = pc.add(pc.add(fees[0], fees[1]), pc.add(fees[2], fees[3]))
    identity = pc.binary_join_element_wise(
        *(raw[name] for name in ("Batch Number", "Type", "Psp Reference", "Modification Reference")), "|"
    )
    return _table(
        {
            "line_id": _counted(identity),
            "category": raw["Type"],
            "movement": movement,
            "is_principal": is_principal,
            "payment_id": columns.payment_ids(raw["Merchant Reference"]),
            "gateway_payment_id": columns.filled(raw["Psp Reference"]),
            "reference": columns.filled(raw["Modification Reference"]),
            "currency": currency,
            "amount_minor": amount,
            "settlement_currency": settled,
            "fee_minor": pc.if_else(pc.equal(movement, Movement.COST), pc.negate(net), fee),
            "net_minor": net,
            "batch": columns.filled(raw["Batch Number"]),
            "occurred_at": columns.utc_times(raw["Creation Date"], raw["TimeZone"], "Creation Date"),
        }
    )


def _balance(raw: pa.Table, codes: Text, credit: str, debit: str) -> Text:
    credits_ = columns.minor_units(raw[credit], codes, credit, "adyen")
    return pc.subtract(credits_, columns.minor_units(raw[debit], codes, debit, "adyen"))


def _classified(texts: Text, known: Mapping[str, tuple[Movement, bool]]) -> tuple[Text, Text]:
    encoded = pc.dictionary_encode(texts).combine_chunks()
    found = [known.get(text, UNKNOWN) for text in (encoded.dictionary.to_pylist() if len(encoded) else [])]
    movements = pa.array([movement.value for movement, _ in found], pa.string()).take(encoded.indices)
    return movements, pa.array([is_principal for _, is_principal in found], pa.bool_()).take(encoded.indices)


def _counted(identities: Text) -> Text:
    """Return identities that are unique in a file: the gateway numbers no line, and two may be alike."""
    if pc.count_distinct(identities).as_py() == len(identities):
        return identities
    seen: dict[str, int] = {}
    found = []
    for identity in identities.to_pylist():
        seen[identity] = count = seen.get(identity, 0) + 1
        found.append(identity if count == 1 else f"{identity}#{count}")
    return pa.array(found, pa.string())


def _table(lines: Mapping[str, Text]) -> pa.Table:
    count = len(lines["line_id"])
    numbered = {"number": pa.array(range(1, count + 1), pa.int32()), **lines}
    return pa.table([numbered[field.name] for field in SCHEMA], schema=SCHEMA)


READERS: Final[Mapping[str, Reader]] = {"stripe": read_stripe, "adyen": read_adyen}
