"""MTN MoMo over HTTP: its paths, bodies, statuses and callbacks. Nothing else knows them."""

from __future__ import annotations

from typing import Final

PROVIDER: Final = "momo"
