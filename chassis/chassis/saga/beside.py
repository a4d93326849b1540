"""A service's own rows, and beside them what a provider inside of the process notes: loaded and saved as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import Connection

Requested = TypeVar("Requested")
Own = TypeVar("Own")
Notes = TypeVar("Notes")


@dataclass(slots=True)
class Beside(Generic[Own, Notes]):
    """What a batch touches."""

    own: Own
    notes: Notes


def loading(
    load: Callable[[Sequence[Requested], Connection], Own], notes: Callable[[], Notes]
) -> Callable[[Sequence[Requested], Connection], Beside[Own, Notes]]:
    """Return what loads the own rows; the provider's are reached through them alone, and only added to."""
    return lambda asked, tx: Beside(load(asked, tx), notes())


def saving(
    save: Callable[[Own, Connection], None], save_notes: Callable[[Notes, Connection], None]
) -> Callable[[Beside[Own, Notes], Connection], None]:
    """Return what saves both in the one transaction."""

    def save_both(rows: Beside[Own, Notes], tx: Connection) -> None:
        save(rows.own, tx)
        save_notes(rows.notes, tx)

    return save_both
