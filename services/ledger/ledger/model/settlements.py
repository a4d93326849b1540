"""What a gateway settles: our money in the bank, its costs, and what becomes available to each merchant. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.model.charts import MERCHANTS, MERCHANTS_TEST, Chart
from ledger.model.merchants import Merchant
from ledger.model.payment_books import Books, Needs, PaymentRequest, Source
from ledger.model.payment_requests import NOTHING
from ledger.model.transfers import Entry, NotBooked, Outcome, reference_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What a settlement makes available to a merchant. Refunds are no part of it: they were taken when they began."""

    merchant: Merchant
    net_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PostSettlement(PaymentRequest):
    """Book one settlement, in one transfer."""

    is_live: bool
    currency: str
    paid_minor: int
    cost_minor: int
    releases: Sequence[Release]

    @property
    def chart(self) -> Chart:
        """The books of its mode."""
        return MERCHANTS if self.is_live else MERCHANTS_TEST

    def needs(self) -> Needs:
        """Return our accounts, and two of each merchant."""
        paths = [self.chart.path(code, self.currency) for code in ("bank", "gateway_costs", "gateway_receivable")]
        for release in self.releases:
            paths += [release.merchant.path(code, self.currency) for code in ("pending", "available")]
        return Needs(own=(reference_of(self.saga_id, self.step),), paths=paths)

    def book(self, books: Books, source: Source) -> Outcome:
        """Book what was paid, what it cost, and each merchant's release, at most what is pending for it.

        A refund, or a capture that failed, has taken its part of what was pending already.
        """
        entries: list[Entry] = []
        if self.paid_minor or self.cost_minor:
            amounts = {"paid": self.paid_minor, "cost": self.cost_minor}
            entries += self.chart.entries("settled", {name: it for name, it in amounts.items() if it}, self.currency)
        net: Counter[Merchant] = Counter()
        for release in self.releases:
            if release.merchant.is_live != self.is_live:
                raise NotBooked(f"{release.merchant} is of the other mode; a settlement is of one.")
            net[release.merchant] += release.net_minor
        for merchant, net_minor in sorted(net.items(), key=lambda pair: pair[0].owner):
            released = books.covered(merchant.path("pending", self.currency), net_minor)
            entries += merchant.entries("released", {"net": released}, self.currency)
        return books.book(source, entries=tuple(entries)) if entries else NOTHING
