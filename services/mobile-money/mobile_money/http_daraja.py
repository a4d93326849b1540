"""Daraja over HTTP: its paths, bodies, codes and callbacks. Nothing else knows them."""

from __future__ import annotations

from typing import Final

PROVIDER: Final = "daraja"
