"""The decimals of currencies, for amounts that a gateway's feed has in major units.

These tables are reconciliation's own, one for each gateway, and share nothing with those that send amounts to a
gateway: with one table for both, a wrong exponent would cancel itself out, and no run would ever show it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

USUAL: Final = 2
OURS: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        (
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
            "XOF", "XPF",
        ),
        0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    **dict.fromkeys(("CLF", "UYW"), 4),
}  # fmt: skip
"""The minor units of the ledger: ISO 4217's, where they are not two."""
STRIPE: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        (
            "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF",
        ),
        0,
    ),
    **dict.fromkeys(("BHD", "JOD", "KWD", "OMR", "TND"), 3),
}  # fmt: skip
"""ISK and UGX have two decimals there, as the interface for programs has them."""
ADYEN: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        (
            "CVE", "DJF", "GNF", "IDR", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF",
        ),
        0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}  # fmt: skip
"""CLP and ISK have two decimals there, CVE and IDR none: each differs from ISO."""
BY_GATEWAY: Final[Mapping[str, Mapping[str, int]]] = {"stripe": STRIPE, "adyen": ADYEN}


def decimals_in_feed(gateway: str, currency: str) -> int:
    """Return how many decimals an amount has at most in this gateway's feed."""
    return BY_GATEWAY[gateway].get(currency, USUAL)


def decimals_of_ours(currency: str) -> int:
    """Return how many decimals the ledger's minor unit has."""
    return OURS.get(currency, USUAL)
