"""Purchases of the Complete Journey data as payments: a household pays a store for its basket."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from baraza.storefront.dataset import BATCH_ROWS, MICROS_PER_S

COLUMNS = ("basket_id", "household_id", "store_id", "sales_value", "transaction_timestamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """What a household paid a store, in cents, and when."""

    basket_id: int
    household_id: int
    store_id: int
    amount_minor: int
    bought_at: datetime


def purchases(path: Path) -> Iterator[Purchase]:
    """Yield the purchases by time. Baskets that cost nothing are left out."""
    for basket_id, rows in groupby(_rows(path), key=lambda row: row[0]):
        lines = list(rows)
        amount_minor = sum(round(value * 100) for _, _, _, value, _ in lines)
        if amount_minor > 0:
            yield Purchase(
                basket_id=basket_id,
                household_id=lines[0][1],
                store_id=lines[0][2],
                amount_minor=amount_minor,
                bought_at=datetime.fromtimestamp(lines[0][4] / MICROS_PER_S, tz=UTC),
            )


def _rows(path: Path) -> Iterator[tuple[int, int, int, float, int]]:
    import pyarrow
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=list(COLUMNS)):
            times = batch[COLUMNS[-1]].cast(pyarrow.timestamp("us")).cast(pyarrow.int64())
            yield from zip(*(batch[name].to_pylist() for name in COLUMNS[:-1]), times.to_pylist(), strict=True)
