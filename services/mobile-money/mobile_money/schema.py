"""All tables of mobile-money: the modules that declare them, imported in one place."""

from __future__ import annotations

from mobile_money import (
    closed_references,
    floats,
    known,
    lanes,
    limiter,
    raw_callbacks,
    receipts,
    statement_tables,
    tables,
    tariffs,
    tokens,
)

DECLARED_BY = (
    closed_references, floats, known, lanes, limiter, raw_callbacks, receipts, statement_tables, tables, tariffs,
    tokens,
)  # fmt: skip
metadata = tables.metadata
