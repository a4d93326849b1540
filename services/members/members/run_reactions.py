"""What members notes of the sagas of a dividend run, and the payouts that begin once a wave has its float."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from members import dividend_tables, member_tables, running
from members.domain import day_of
from members.member_tables import Holding
from messages.contract import Message
from messages.saga import (
    DividendChunkCompleted,
    DividendChunkFailed,
    DividendRunCompleted,
    DividendRunFailed,
    DividendWaveCompleted,
    DividendWaveFailed,
)

SHARES = "SHARES"


def on_dividend_run_completed(events: Sequence[DividendRunCompleted], tx: Connection) -> None:
    """Note that runs are declared: their lines are posted from now on."""
    dividend_tables.DECLARED_NOW.run(tx, {"ids": sorted({event.saga_id for event in events})})


def on_dividend_run_failed(events: Sequence[DividendRunFailed], tx: Connection) -> None:
    """Note why runs were not declared. They can be approved once more."""
    reasons = {event.saga_id: event.reason for event in events}
    dividend_tables.NOT_DECLARED.run(tx, {"ids": list(reasons), "reasons": list(reasons.values())})


def on_dividend_chunk_completed(events: Sequence[DividendChunkCompleted], tx: Connection) -> None:
    """Note that the lines of chunks are in the ledger, and what became shares."""
    for event in sorted(events, key=lambda each: each.saga_id):
        ended = _end_chunk(tx, event, "POSTED", None)
        if ended is None:
            continue
        values = {"run_id": ended.run_id, "chunk": ended.chunk}
        if ended.kind == running.RETURNED_KIND:
            tx.execute(dividend_tables.RETURN_POSTED, values)
            continue
        month = day_of(event.occurred_at).replace(day=1)
        posted = tx.execute(dividend_tables.CHUNK_POSTED, values).all()
        sums: dict[str, int] = {}
        for line in posted:
            if line.destination == SHARES:
                sums[line.member_id] = sums.get(line.member_id, 0) + line.net_minor
        holdings = [
            Holding(source=event.saga_id, member_id=number, kind=SHARES, month=month, amount_minor=amount_minor)
            for number, amount_minor in sums.items()
        ]
        member_tables.add_holdings(tx, holdings)


def on_dividend_chunk_failed(events: Sequence[DividendChunkFailed], tx: Connection) -> None:
    """Take the lines out of chunks that were not posted: another chunk posts them."""
    for event in sorted(events, key=lambda each: each.saga_id):
        ended = _end_chunk(tx, event, "FAILED", event.reason)
        if ended is None:
            continue
        is_return = ended.kind == running.RETURNED_KIND
        statement = dividend_tables.RETURN_FAILED if is_return else dividend_tables.CHUNK_FAILED
        tx.execute(statement, {"run_id": ended.run_id, "chunk": ended.chunk})


def _end_chunk(tx: Connection, event: Message, state: str, reason: str | None) -> dividend_tables.LineRow | None:
    values = {"saga_id": event.saga_id, "state": state, "reason": reason, "at": event.occurred_at}
    return tx.execute(dividend_tables.END_CHUNK, values).one_or_none()


def on_dividend_wave_completed(events: Sequence[DividendWaveCompleted], tx: Connection) -> list[Message]:
    """Begin the payouts of the waves whose float is reserved."""
    begun: list[Message] = []
    for event in sorted(events, key=lambda each: each.saga_id):
        values = {"saga_id": event.saga_id, "at": event.occurred_at}
        reserved = tx.execute(dividend_tables.RESERVE_WAVE, values).one_or_none()
        if reserved is None:
            continue
        run = dividend_tables.find(tx, reserved.run_id)
        assert run is not None, "a wave's run is there"
        begun += running.release_wave(tx, run, reserved.wave, event)
    return begun


def on_dividend_wave_failed(events: Sequence[DividendWaveFailed], tx: Connection) -> None:
    """Let refused waves ask again after a pause that doubles with each attempt."""
    for event in sorted(events, key=lambda each: each.saga_id):
        values = {
            "saga_id": event.saga_id,
            "refusal": event.reason,
            "at": event.occurred_at,
            "first_s": running.WAVE_AGAIN_FIRST_S,
            "longest_s": running.WAVE_AGAIN_LONGEST_S,
        }
        tx.execute(dividend_tables.REFUSE_WAVE, values)
