"""Whose payment it is: the chart and the accounts of a merchant, in live or in test mode. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ledger.model.charts import MERCHANTS, MERCHANTS_TEST, Chart
from ledger.model.transfers import Entry

TEST_SUFFIX: Final = "-test"
OWNED: Final = tuple(code for code, account in MERCHANTS.accounts.items() if account.is_owned)
"""The accounts that each merchant has, in each mode and currency."""
MERCHANT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
CURRENCY: Final = re.compile(r"[A-Z]{3}")


class UnknownMerchant(LookupError):
    """A merchant has no accounts in a currency. Its onboarding saga opens them; register the merchant with it."""


class InvalidMerchant(ValueError):
    """A merchant's id or currency cannot name an account; the message says which, and what fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merchant:
    """A merchant in one mode. Each mode has books of its own, and other owners in them."""

    merchant_id: str
    is_live: bool

    @property
    def chart(self) -> Chart:
        """The chart of the mode."""
        return MERCHANTS if self.is_live else MERCHANTS_TEST

    @property
    def owner(self) -> str:
        """The owner of the merchant's accounts in the mode."""
        return self.merchant_id if self.is_live else f"{self.merchant_id}{TEST_SUFFIX}"

    def path(self, code: str, currency: str) -> str:
        """Return the path of an account: the merchant's own, or one that all merchants share."""
        return self.chart.path(code, currency, self.owner if code in OWNED else None)

    def entries(self, posting: str, amounts: Mapping[str, int], currency: str) -> tuple[Entry, ...]:
        """Return the entries of a moment. An amount of zero has no entry."""
        given = {name: amount_minor for name, amount_minor in amounts.items() if amount_minor}
        return self.chart.entries(posting, given, currency, dict.fromkeys(OWNED, self.owner))

    def accounts(self, currency: str) -> Iterator[str]:
        """Yield the paths of all of the merchant's own accounts in a currency."""
        return (self.path(code, currency) for code in OWNED)


def accounts_of(merchant_id: str, currencies: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths of every account that a merchant has, in both modes. Raises InvalidMerchant."""
    if not MERCHANT_ID.fullmatch(merchant_id):
        raise InvalidMerchant(f"Merchant {merchant_id!r} is not {MERCHANT_ID.pattern}; register it under such an id.")
    for currency in currencies:
        if not CURRENCY.fullmatch(currency):
            raise InvalidMerchant(
                f"Merchant {merchant_id} has currency {currency!r}; a code has three capital letters."
            )
    merchants = [Merchant(merchant_id=merchant_id, is_live=is_live) for is_live in (True, False)]
    return tuple(
        path for merchant in merchants for currency in dict.fromkeys(currencies) for path in merchant.accounts(currency)
    )
