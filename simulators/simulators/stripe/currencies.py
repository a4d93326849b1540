"""The decimals, minima and limits of amounts, as Stripe has them."""

from __future__ import annotations

WITHOUT_DECIMALS = frozenset((
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF",
))  # fmt: skip
"""ISK and UGX are none of them: they are sent as if they had two."""
THREE_DECIMALS = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])
"""The last digit must be 0."""
UNITS_MAX = 99_999_999
MINIMA = {
    **dict.fromkeys(["USD", "AUD", "BRL", "CAD", "CHF", "EUR", "INR", "NZD", "SGD"], 50),
    "GBP": 30, "AED": 200, "MYR": 200, "PLN": 200, "RON": 200, "DKK": 250, "NOK": 300, "SEK": 300, "HKD": 400,
    "MXN": 1_000, "THB": 1_000, "CZK": 1_500, "HUF": 17_500, "JPY": 50,
}  # fmt: skip


def exponent(currency: str) -> int:
    """Return how many decimals a currency has here."""
    if currency in WITHOUT_DECIMALS:
        return 0
    return 3 if currency in THREE_DECIMALS else 2
