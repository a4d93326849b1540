"""The charts of accounts, and what each moment of a business debits and credits. This module is data.

An account's path is ``chart:code:currency``, or ``chart:code:owner:currency`` where each member or merchant has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ledger.model.accounts import AccountKind
from ledger.model.transfers import Entry

ASSET, LIABILITY, INCOME = AccountKind.ASSET, AccountKind.LIABILITY, AccountKind.INCOME
EXPENSE, EQUITY = AccountKind.EXPENSE, AccountKind.EQUITY
LANES = 8
"""Balance rows of a busy account without a limit: as many processes write to it at once without waiting."""


class UnknownAccount(ValueError):
    """A chart has no such account or posting; the message names those that it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartAccount:
    """An account of a chart. ``floor_minor`` 0 never goes below zero; None is no limit.

    An account of a member or merchant is opened by the system that uses it, by ``store.accounts`` as no API does it,
    so that a wrong number opens none. Any other account, and one that ``is_passing`` because it exists for one payout
    or one short code, is opened when it is first used.
    """

    kind: AccountKind
    title: str
    floor_minor: int | None = None
    lanes: int = 1
    is_owned: bool = False
    is_passing: bool = False

    @property
    def is_opened_on_use(self) -> bool:
        return self.is_passing or not self.is_owned


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a posting: the account, and the names of the amounts that are summed on it."""

    account: str
    amounts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """What one moment of the business debits and credits."""

    debits: tuple[Side, ...]
    credits: tuple[Side, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A chart of accounts. Its days begin and end at midnight of ``zone``."""

    name: str
    zone: str
    accounts: Mapping[str, ChartAccount]
    postings: Mapping[str, Posting] = field(default_factory=dict)

    def path(self, code: str, currency: str, owner: str | None = None) -> str:
        """Return the path of an account. Raises UnknownAccount."""
        account = self.accounts.get(code)
        if account is None:
            known = ", ".join(self.accounts)
            raise UnknownAccount(f"Chart {self.name} has no account {code!r}; known: {known}. Check the posting.")
        if account.is_owned != (owner is not None):
            needed = "needs an owner" if account.is_owned else "has no owner"
            raise UnknownAccount(f"Account {code} of chart {self.name} {needed}, and got {owner!r}.")
        return ":".join([self.name, code, *([owner] if owner is not None else []), currency])

    def entries(
        self, posting: str, amounts: Mapping[str, int], currency: str, owners: Mapping[str, str] | None = None
    ) -> tuple[Entry, ...]:
        """Return the entries of a moment. A side none of whose amounts is given has no entry.

        ``owners`` are the owners of the accounts that have one, by code. Raises UnknownAccount.
        """
        found = self.postings.get(posting)
        if found is None:
            known = ", ".join(self.postings)
            raise UnknownAccount(f"Chart {self.name} has no posting {posting!r}; known: {known}. Check its name.")
        owners = owners or {}
        sides = [(side, 1) for side in found.debits] + [(side, -1) for side in found.credits]
        return tuple(
            Entry(
                self.path(side.account, currency, owners.get(side.account)),
                sign * sum(amounts.get(each, 0) for each in side.amounts),
                currency,
            )
            for side, sign in sides
            if not amounts.keys().isdisjoint(side.amounts)
        )


def _posting(debits: Mapping[str, str], credits_: Mapping[str, str]) -> Posting:
    """Return a posting, from accounts to the names of amounts with a plus between them."""
    return Posting(
        debits=tuple(Side(account=code, amounts=tuple(names.split("+"))) for code, names in debits.items()),
        credits=tuple(Side(account=code, amounts=tuple(names.split("+"))) for code, names in credits_.items()),
    )


SHOP = Chart(
    name="shop",
    zone="UTC",
    accounts={
        "gateway_receivable": ChartAccount(kind=ASSET, title="The gateway's debt to us", lanes=LANES),
        "sales": ChartAccount(kind=INCOME, title="Sales", lanes=LANES),
        "tax_payable": ChartAccount(kind=LIABILITY, title="Tax that we owe", lanes=LANES),
        "points_liability": ChartAccount(kind=LIABILITY, title="Points that customers may still use", lanes=LANES),
        "exchange": ChartAccount(kind=ASSET, title="Exchange between currencies"),
        "bank": ChartAccount(kind=ASSET, title="The bank"),
    },
    postings={
        "captured": _posting(
            {"gateway_receivable": "captured", "points_liability": "points"},
            {"sales": "net", "tax_payable": "tax"},
        ),
        "settled": _posting({"bank": "settled"}, {"gateway_receivable": "settled"}),
        "returned": _posting(
            {"sales": "refund+points"}, {"gateway_receivable": "refund", "points_liability": "points"}
        ),
    },
)

MERCHANTS = Chart(
    name="merchants",
    zone="UTC",
    accounts={
        "gateway_receivable": ChartAccount(kind=ASSET, title="The gateways' debt to us", lanes=LANES),
        "pending": ChartAccount(kind=LIABILITY, title="Captured, not settled", is_owned=True),
        "available": ChartAccount(kind=LIABILITY, title="May be paid out", is_owned=True, floor_minor=0),
        "reserve": ChartAccount(kind=LIABILITY, title="Kept for disputes", is_owned=True, floor_minor=0),
        "captures_in_transit": ChartAccount(kind=LIABILITY, title="Captures that are not proven yet", lanes=LANES),
        "refunds_in_transit": ChartAccount(kind=LIABILITY, title="Refunds that are not proven yet", lanes=LANES),
        "payouts_in_transit": ChartAccount(kind=LIABILITY, title="Payouts in transit"),
        "receivable": ChartAccount(kind=ASSET, title="What merchants owe us", is_owned=True),
        "fees": ChartAccount(kind=INCOME, title="Fees that we earned", lanes=LANES),
        "gateway_costs": ChartAccount(kind=EXPENSE, title="Fees that gateways took", lanes=LANES),
        "exchange": ChartAccount(kind=ASSET, title="Exchange between currencies"),
        "bank": ChartAccount(kind=ASSET, title="The bank"),
        "suspense": ChartAccount(kind=LIABILITY, title="Receipts without a payment"),
    },
    postings={
        "reserved": _posting({"gateway_receivable": "amount"}, {"captures_in_transit": "amount"}),
        # What was accepted beyond what is proven, the rest, the gateway does not owe us any more.
        "captured": _posting(
            {"captures_in_transit": "net+fee+rest"}, {"pending": "net", "fees": "fee", "gateway_receivable": "rest"}
        ),
        "capture_failed": _posting(
            {"pending": "pending", "available": "available", "receivable": "receivable", "fees": "fee"},
            {"gateway_receivable": "pending+available+receivable+fee"},
        ),
        "settled": _posting({"bank": "paid", "gateway_costs": "cost"}, {"gateway_receivable": "paid+cost"}),
        "released": _posting({"pending": "net+reserve"}, {"available": "net", "reserve": "reserve"}),
        "refund_reserved": _posting(
            {"available": "available", "pending": "pending", "receivable": "receivable"},
            {"refunds_in_transit": "available+pending+receivable"},
        ),
        "refunded": _posting({"refunds_in_transit": "refund"}, {"gateway_receivable": "refund"}),
        "refund_failed": _posting(
            {"gateway_receivable": "available+receivable"}, {"available": "available", "receivable": "receivable"}
        ),
        "disputed": _posting({"reserve": "covered", "receivable": "rest"}, {"gateway_receivable": "covered+rest"}),
        "dispute_won": _posting({"gateway_receivable": "covered+rest"}, {"reserve": "covered", "receivable": "rest"}),
        "payout": _posting({"available": "payout"}, {"payouts_in_transit": "payout"}),
        "payout_paid": _posting({"payouts_in_transit": "payout"}, {"bank": "payout"}),
        "payout_failed": _posting({"payouts_in_transit": "payout"}, {"available": "payout"}),
    },
)

MERCHANTS_TEST = replace(MERCHANTS, name="merchants_test")
"""The books of merchants in test mode, so that no test is in the real ones."""

SACCO = Chart(
    name="sacco",
    zone="Africa/Nairobi",
    accounts={
        "utility": ChartAccount(
            kind=ASSET, title="A short code's utility account", is_owned=True, is_passing=True, lanes=LANES
        ),
        "working": ChartAccount(kind=ASSET, title="A short code's working account", is_owned=True, is_passing=True),
        "bank": ChartAccount(kind=ASSET, title="The bank"),
        "loan": ChartAccount(kind=ASSET, title="A member's loan", is_owned=True, floor_minor=0),
        "loans_in_transit": ChartAccount(kind=ASSET, title="Loans being disbursed", is_owned=True, is_passing=True),
        "member_receivable": ChartAccount(kind=ASSET, title="Paid out twice, owed by the member", is_owned=True),
        "fosa": ChartAccount(kind=LIABILITY, title="A member's savings", is_owned=True, floor_minor=0),
        "deposits": ChartAccount(kind=LIABILITY, title="A member's deposits", is_owned=True, floor_minor=0),
        "shares": ChartAccount(kind=EQUITY, title="A member's shares", is_owned=True, floor_minor=0),
        "unallocated": ChartAccount(kind=LIABILITY, title="Receipts not yet allocated", lanes=LANES),
        "payout_in_transit": ChartAccount(
            kind=LIABILITY, title="One payout in transit", is_owned=True, is_passing=True, floor_minor=0
        ),
        "returns_in_transit": ChartAccount(
            kind=LIABILITY, title="One return in transit", is_owned=True, is_passing=True, floor_minor=0
        ),
        "fees_held": ChartAccount(kind=LIABILITY, title="Fees held until success", lanes=LANES),
        "charges_payable": ChartAccount(
            kind=LIABILITY, title="Charges payable for a short code", is_owned=True, is_passing=True, lanes=LANES
        ),
        "excise": ChartAccount(kind=LIABILITY, title="Excise duty that we owe", lanes=LANES),
        "withholding_tax": ChartAccount(kind=LIABILITY, title="Withholding tax that we owe"),
        "dividends_declared": ChartAccount(
            kind=LIABILITY, title="A run's dividends, not posted yet", is_owned=True, is_passing=True, floor_minor=0
        ),
        "dividends_payable": ChartAccount(kind=LIABILITY, title="A member's dividend", is_owned=True, floor_minor=0),
        "appropriation": ChartAccount(kind=EQUITY, title="Profit that is distributed", floor_minor=0),
        "fees": ChartAccount(kind=INCOME, title="Fees that we earned", lanes=LANES),
        "loan_fees": ChartAccount(kind=INCOME, title="Fees of loans", lanes=LANES),
        "interest": ChartAccount(kind=INCOME, title="Interest on loans", lanes=LANES),
        "penalties": ChartAccount(kind=INCOME, title="Penalties", lanes=LANES),
        "costs": ChartAccount(kind=EXPENSE, title="M-Pesa's charges", lanes=LANES),
    },
    postings={
        "received": _posting({"utility": "amount"}, {"unallocated": "amount"}),
        "attributed": _posting(
            {"unallocated": "penalties+loan_fees+interest+loan+shares+deposits+fosa"},
            {
                "penalties": "penalties",
                "loan_fees": "loan_fees",
                "interest": "interest",
                "loan": "loan",
                "shares": "shares",
                "deposits": "deposits",
                "fosa": "fosa",
            },
        ),
        "repaid": _posting(
            {"fosa": "penalties+loan_fees+interest+loan"},
            {"penalties": "penalties", "loan_fees": "loan_fees", "interest": "interest", "loan": "loan"},
        ),
        "return_held": _posting({"unallocated": "amount"}, {"returns_in_transit": "amount"}),
        "return_held_from_savings": _posting({"fosa": "amount"}, {"returns_in_transit": "amount"}),
        "returned": _posting({"returns_in_transit": "amount"}, {"utility": "amount"}),
        "payout": _posting({"fosa": "amount+fee+excise"}, {"payout_in_transit": "amount", "fees_held": "fee+excise"}),
        "loan_payout": _posting(
            {"loans_in_transit": "amount", "fosa": "fee+excise"},
            {"payout_in_transit": "amount", "fees_held": "fee+excise"},
        ),
        "dividend_payout": _posting(
            {"dividends_payable": "amount+fee+excise"}, {"payout_in_transit": "amount", "fees_held": "fee+excise"}
        ),
        "payout_paid": _posting(
            {"payout_in_transit": "amount", "fees_held": "fee+excise", "costs": "charge"},
            {"utility": "amount", "fees": "fee", "excise": "excise", "charges_payable": "charge"},
        ),
        "loan_paid": _posting({"loan": "amount"}, {"loans_in_transit": "amount"}),
        "payout_paid_after_release": _posting({"member_receivable": "amount"}, {"utility": "amount"}),
        "dividend_declared": _posting({"appropriation": "gross"}, {"dividends_declared": "gross"}),
        "dividend_to_mobile": _posting(
            {"dividends_declared": "net+tax"}, {"dividends_payable": "net", "withholding_tax": "tax"}
        ),
        "dividend_to_savings": _posting({"dividends_declared": "net+tax"}, {"fosa": "net", "withholding_tax": "tax"}),
        "dividend_to_shares": _posting({"dividends_declared": "net+tax"}, {"shares": "net", "withholding_tax": "tax"}),
        "dividend_returned": _posting({"dividends_payable": "net"}, {"fosa": "net"}),
        "utility_filled": _posting({"utility": "amount"}, {"working": "amount"}),
        "working_filled": _posting({"working": "amount"}, {"bank": "amount"}),
    },
)
"""What a correction takes back, the release of a payout's hold or of a return's, is no posting of its own."""

CHARTS: Mapping[str, Chart] = {chart.name: chart for chart in (SHOP, MERCHANTS, MERCHANTS_TEST, SACCO)}


def account_of(path: str) -> tuple[Chart, str, str | None, str] | None:
    """Return the chart, code, owner and currency that a path names, or None where no chart has such an account."""
    chart_name, _, rest = path.partition(":")
    chart = CHARTS.get(chart_name)
    code, _, rest = rest.partition(":")
    account = None if chart is None else chart.accounts.get(code)
    if chart is None or account is None or not rest:
        return None
    owner, separator, currency = rest.rpartition(":")
    if account.is_owned != bool(separator) or (separator and not owner):
        return None
    return chart, code, owner or None, currency
