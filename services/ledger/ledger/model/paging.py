"""How long a page of the ledger's lists may be: for its API, and for those who read every page."""

from __future__ import annotations

from typing import Final

PAGE_MAX: Final = 1_000
