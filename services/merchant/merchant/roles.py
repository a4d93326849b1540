"""The roles of a merchant's token. It has the first one and exactly one of the modes; its subject is the merchant."""

from __future__ import annotations

from typing import Final

MERCHANT, LIVE, TEST = "merchant", "live", "test"
MERCHANT_ROLES: Final = frozenset({MERCHANT, LIVE, TEST})
"""What a key gives. A token that is issued here has no other ones, and none would be believed."""
