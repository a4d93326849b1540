"""What this process has stored itself, so that the next batch need not ask for it: offsets, and sagas under way.

It is a guess, and PostgreSQL the truth: every write that builds on it checks that nobody was there in between
(``Overtaken``). What is taken out comes back when it is committed; after a failure it is asked for again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from saga_tracker.store.consumed_offsets import TopicPartition
from saga_tracker.store.sagas import SagaRow

SAGAS_MAX = 5_000
"""Some 10 MB. More are under way only behind a step that does not answer, and those need not be remembered."""


class Memory:
    """What one process remembers; one thread uses it."""

    def __init__(self) -> None:
        self._offsets: dict[TopicPartition, int] = {}
        self._sagas: dict[str, SagaRow] = {}

    def begin(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Forget everything but these offsets, which were just read."""
        self._offsets, self._sagas = dict(offsets), {}

    def take_offsets(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int] | None:
        """Take out where these partitions go on; None where that is not known of all of them."""
        taken = {place: self._offsets.pop(place) for place in places if place in self._offsets}
        return taken if len(taken) == len(places) else None

    def take_sagas(self, saga_ids: Iterable[str]) -> dict[str, SagaRow]:
        """Take out those of these sagas that are remembered."""
        sagas = self._sagas
        return {saga_id: sagas.pop(saga_id) for saga_id in saga_ids if saga_id in sagas}

    def keep(self, offsets: Mapping[TopicPartition, int], sagas: Iterable[SagaRow]) -> None:
        """Remember what was committed. A saga that has ended is done with; the longest unused are forgotten first."""
        self._offsets.update(offsets)
        for row in sagas:
            if row.finished_at is None:
                self._sagas[row.saga_id] = row
        while len(self._sagas) > SAGAS_MAX:
            del self._sagas[next(iter(self._sagas))]
