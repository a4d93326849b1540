"""A service's own rows together with the records that a provider adds: loaded and saved as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Connection

Requested = TypeVar("Requested")
Rows = TypeVar("Rows")
Records = TypeVar("Records")


@dataclass(slots=True)
class WithRecords(Generic[Rows, Records]):
    """What a batch touches: the service's rows, and what the provider adds to its records."""

    rows: Rows
    records: Records


def loading(
    load: Callable[[Sequence[Requested], Connection], Rows], records: Callable[[], Records]
) -> Callable[[Sequence[Requested], Connection], WithRecords[Rows, Records]]:
    """Return a function that loads the service's rows. The provider's records are only added to, never loaded."""
    return lambda requested, tx: WithRecords(load(requested, tx), records())


def saving(
    save: Callable[[Rows, Connection], None], save_records: Callable[[Records, Connection], None]
) -> Callable[[WithRecords[Rows, Records], Connection], None]:
    """Return a function that saves both in one transaction."""

    def save_both(touched: WithRecords[Rows, Records], tx: Connection) -> None:
        save(touched.rows, tx)
        save_records(touched.records, tx)

    return save_both
