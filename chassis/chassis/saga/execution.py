"""Executes work: one transaction for the whole batch, and one for each piece where the batch fails.

The worker and the simulation both execute through these lines. What differs is their :class:`Host`: how a transaction
is run and repeated, and what follows its commit. This module never touches Kafka or a thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection

from chassis.postgres.transient import is_transient
from chassis.saga import outbox
from chassis.saga.batch import Batch
from chassis.saga.commit_allowance import CommitAllowance
from chassis.saga.handlers import Handlers
from chassis.saga.routing import Work
from chassis.saga.unit_of_work import Outgoing
from chassis.wire.codec import Codec
from chassis.wire.envelope import NewId


class Host(Protocol):
    """What an execution runs in: a worker, or a process of the simulation."""

    def transact(self, work: Work, handle: Callable[[Connection], Outgoing]) -> Outgoing:
        """Run ``handle`` in a transaction, commit it, and return its result; repeat it after a transient error."""
        ...

    def removal(self) -> AbstractContextManager[Sequence[str]]:
        """Yield the ids of delivered outbox rows, which the block's transaction is to delete.

        Where the block raises, they are kept for a later transaction.
        """
        ...

    def committed(self, out: Outgoing) -> None:
        """Publish the rows and begin the calls of a committed transaction."""
        ...

    def batch_failed(self, error: Exception) -> None:
        """Take note that a batch was rolled back and is taken apart next."""
        ...

    def piece_failed(self, piece: Work, error: Exception) -> None:
        """Take note that a piece was rolled back and its failure is recorded next."""
        ...


class _RolledBack(Exception):
    """The transaction of a whole batch was rolled back; ``error`` is the reason."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Execution:
    """Executes the work of one service. ``jitter`` returns the source of chance of one batch."""

    def __init__(
        self,
        service: str,
        handlers: Handlers,
        codec: Codec,
        host: Host,
        *,
        clock: Callable[[], datetime],
        new_id: NewId,
        jitter: Callable[[], random.Random],
    ) -> None:
        self._service = service
        self._handlers = handlers
        self._codec = codec
        self._host = host
        self._clock = clock
        self._new_id = new_id
        self._jitter = jitter
        self._allowance = CommitAllowance()

    @property
    def allowance(self) -> timedelta:
        """The time to the commit for which the deadlines of the next transaction's calls allow."""
        return self._allowance.present

    def run(self, work: Work) -> None:
        """Handle the work.

        1. Handle everything in one transaction, which also deletes delivered rows of the outbox.
        2. Where it fails, handle each piece in a transaction of its own.
        3. Where a piece fails, record that: a retry, or a dead letter with its parked message.

        Raises a transient error that outlasted its repetitions, and any error of which no row would be left. The
        process then ends without committing its offsets, so that nothing is lost.
        """
        # 1.
        try:
            out = self._handle_whole(work)
        except _RolledBack as rolled_back:
            if is_transient(rolled_back.error):
                raise rolled_back.error from None
            self._host.batch_failed(rolled_back.error)
        else:
            self._host.committed(out)
            return
        for piece in work.pieces():
            # 2.
            try:
                out = self._handle(piece)
            except Exception as error:  # its handler raised for this very message
                if is_transient(error):
                    raise
                # 3.
                self._host.piece_failed(piece, error)
                out = self._record_failure(piece, error)
            self._host.committed(out)

    def _handle_whole(self, work: Work) -> Outgoing:
        """Raises _RolledBack for whatever handling the work raises; errors of the removal itself pass through."""
        with self._host.removal() as delivered:
            try:
                return self._handle(work, delivered)
            except Exception as error:  # a handler may raise anything; the pieces show which message it concerns
                raise _RolledBack(error) from error

    def _handle(self, work: Work, delivered: Sequence[str] = ()) -> Outgoing:
        def handle(tx: Connection) -> Outgoing:
            outbox.remove(tx, delivered)
            batch = self._batch(tx, work)
            batch.handle(work)
            return batch.finish()

        return self._transact(work, handle)

    def _record_failure(self, piece: Work, error: Exception) -> Outgoing:
        """Leave a row that says what is to become of the piece. Raises the error where no handler can be retried."""
        if piece.unprocessable or piece.unwanted:
            raise error

        def record(tx: Connection) -> Outgoing:
            batch = self._batch(tx, piece)
            batch.record_failure(piece, error)
            return batch.finish()

        return self._transact(piece, record)

    def _transact(self, work: Work, handle: Callable[[Connection], Outgoing]) -> Outgoing:
        """Run the transaction, and let the next one allow for the time that this one took until its commit."""
        began_at = self._clock()

        def begin(tx: Connection) -> Outgoing:
            nonlocal began_at
            began_at = self._clock()
            return handle(tx)

        try:
            return self._host.transact(work, begin)
        finally:
            self._allowance.took(self._clock() - began_at)

    def _batch(self, tx: Connection, work: Work) -> Batch:
        return Batch(
            tx,
            self._service,
            self._handlers,
            self._codec,
            work.saga_ids,
            now=self._clock(),
            new_id=self._new_id,
            jitter=self._jitter(),
            allowance=self.allowance,
        )
