"""Caches what this process has stored itself, so that the next batch need not load it: offsets, and sagas under way.

The cache may be stale; PostgreSQL is the truth. Every write that builds on it checks that no other worker has written
in between (``Overtaken``). What is taken out is put back after the commit; after a failure it is loaded again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from saga_tracker.store.consumed_offsets import TopicPartition
from saga_tracker.store.sagas import SagaRow

SAGAS_MAX = 5_000
"""Some 10 MB. More are under way only behind a step that does not answer, and those need not be cached."""


class SagaCache:
    """The offsets and sagas that one process has stored; one thread uses it."""

    def __init__(self) -> None:
        self._offsets: dict[TopicPartition, int] = {}
        self._sagas: dict[str, SagaRow] = {}

    def reset(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Drop everything but these offsets, which were just loaded."""
        self._offsets, self._sagas = dict(offsets), {}

    def take_offsets(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int] | None:
        """Take out the next offsets of these partitions; None unless all of them are cached."""
        taken = {each: self._offsets.pop(each) for each in partitions if each in self._offsets}
        return taken if len(taken) == len(partitions) else None

    def take_sagas(self, saga_ids: Iterable[str]) -> dict[str, SagaRow]:
        """Take out those of these sagas that are cached."""
        sagas = self._sagas
        return {saga_id: sagas.pop(saga_id) for saga_id in saga_ids if saga_id in sagas}

    def keep(self, offsets: Mapping[TopicPartition, int], sagas: Iterable[SagaRow]) -> None:
        """Cache what was committed. A saga that has ended is left out; the longest unused are evicted first."""
        self._offsets.update(offsets)
        for row in sagas:
            if row.finished_at is None:
                self._sagas[row.saga_id] = row
        while len(self._sagas) > SAGAS_MAX:
            del self._sagas[next(iter(self._sagas))]
