"""The messages that wait for the sagas of one batch, in order: a saga's own events never overtake each other.

A waiting event blocks the later ones of its saga. A command passes, since it decides about those that wait. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime

from chassis.saga.deferred import Deferral, Key

UNPROCESSABLE = "unread"
"""The handler of a parked message that could not be decoded or must not be handled; a redrive routes it anew. Rows of
every release have this value."""

QUERIED_AGAIN = "its call came back after it was fenced; the provider is queried once more"
"""The reason of a trigger whose effect is FENCED, but whose call may have had its effect."""


@dataclass(slots=True)
class WaitingMessages:
    """The deferrals of one batch's sagas: loaded and locked once, changed in memory, saved once.

    ``removed`` are the keys of rows to delete, ``renamed`` of rows that get another key.
    """

    _rows: dict[Key, Deferral] = field(default_factory=dict)
    _keys: dict[str, list[Key]] = field(default_factory=dict)
    _changed: set[Key] = field(default_factory=set)
    _stored: set[Key] = field(default_factory=set)
    removed: set[Key] = field(default_factory=set)
    renamed: dict[Key, Key] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Deferral]) -> WaitingMessages:
        """Return these rows, which come in their sagas' order, as loaded."""
        waiting = cls()
        for row in rows:
            waiting._rows[row.key] = row
            waiting._keys.setdefault(row.saga_id, []).append(row.key)
            waiting._stored.add(row.key)
        return waiting

    @property
    def changed(self) -> list[Deferral]:
        """The deferrals to save, new ones in the order in which they came."""
        keys = (key for keys in self._keys.values() for key in keys)
        return [self._rows[key] for key in keys if key in self._changed]

    def get(self, key: Key) -> Deferral | None:
        """Return the deferral as the batch has left it so far."""
        return self._rows.get(key)

    def of_saga(self, saga_id: str) -> Iterator[Deferral]:
        """Yield what waits for a saga, in order."""
        return (self._rows[key] for key in list(self._keys.get(saga_id, ())))

    def is_due(self, key: Key, now: datetime) -> bool:
        """Return whether it is due and the batch has not changed it."""
        row = self._rows.get(key)
        return row is not None and key not in self._changed and row.due_at is not None and row.due_at <= now

    def is_blocked(self, saga_id: str, message_id: str) -> bool:
        """Return whether another event of the saga waits, which a later one must not overtake."""
        return any(row.message_id != message_id for row in self.of_saga(saga_id) if not row.raw.is_command)

    def put(self, row: Deferral, *, instead_of: Key | None = None) -> None:
        """Add or change a deferral; ``instead_of`` is the key of the row whose position in the order it takes."""
        keys = self._keys.setdefault(row.saga_id, [])
        if instead_of is not None and row.key in self._rows and instead_of != row.key:
            self.remove(instead_of)
        elif instead_of is not None and instead_of != row.key and instead_of in self._rows:
            keys[keys.index(instead_of)] = row.key
            del self._rows[instead_of]
            self._changed.discard(instead_of)
            self.renamed[instead_of] = row.key
        elif row.key not in self._rows:
            keys.append(row.key)
        self._rows[row.key] = row
        self._changed.add(row.key)
        self.removed.discard(row.key)

    def remove(self, key: Key) -> None:
        """Delete a deferral, if it is there."""
        row = self._rows.pop(key, None)
        if row is None:
            return
        self._keys[row.saga_id].remove(key)
        self._changed.discard(key)
        stored = next((old for old, new in self.renamed.items() if new == key), key)
        self.renamed.pop(stored, None)
        if stored in self._stored:
            self.removed.add(stored)

    def wake(self, saga_id: str, wanted: Callable[[Deferral], bool], now: datetime) -> None:
        """Make the wanted deferrals of a saga due now: what they waited for has happened."""
        for row in self.of_saga(saga_id):
            if wanted(row) and (row.due_at is None or row.due_at > now):
                self.put(replace(row, due_at=now, is_blocked=False))

    def resume(self, row: Deferral, now: datetime) -> None:
        """Let a parked deferral run again: now where it is first in its saga, else after those that block it."""
        is_first = next(self._events(row.saga_id), row).key == row.key or row.raw.is_command
        self.put(replace(row, due_at=now if is_first else None, is_blocked=not is_first))

    def unblock(self, now: datetime) -> None:
        """Make each event due that is first in its saga now."""
        for saga_id in self._keys:
            first = next(self._events(saga_id), None)
            if first is not None and first.is_blocked:
                self.put(replace(first, due_at=now, is_blocked=False))

    def _events(self, saga_id: str) -> Iterator[Deferral]:
        return (row for row in self.of_saga(saga_id) if not row.raw.is_command)
