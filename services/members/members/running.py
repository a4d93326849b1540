"""How a dividend run goes on: chunks that post its lines, waves that pay them, lines that come back, and its end.

A reaction notes what has happened; :func:`advance` releases what is next, never all at once. Ids are derived, so what
is released twice is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from chassis.wire.envelope import derived_id, new_id
from members import dividend_tables, member_tables, terms_tables
from members.dividend_tables import DECLARED, PAYING, POSTING, LineRow, RunRow
from members.dividends import hash_of
from messages.contract import Message
from messages.members import DividendChunkReleased, DividendLine, DividendPayoutReleased, DividendWaveRequested

CHUNK_LINES_MAX: Final = 500
"""One transaction of the ledger holds its rows locked for as long as it posts them."""
CHUNKS_OPEN_MAX: Final = 4
WAVE_LINES_MAX: Final = 200
"""Some seconds of payouts at a published limit of 20 calls a second; a pause of the lane stops the next wave."""
PAYOUTS_OPEN_MAX: Final = 400
"""Payouts that are released and have not ended. More would only wait in the lane."""
WAVE_AGAIN_FIRST_S, WAVE_AGAIN_LONGEST_S = 5.0, 300.0
"""A refused wave asks again after a pause that doubles."""
DECLARED_KIND, RETURNED_KIND = "DECLARED", "RETURNED"
SAGA_VERSION: Final = 1


def advance(tx: Connection, run: RunRow, now: datetime) -> list[Message]:
    """Return the events that bring a run on, whose row is locked: chunks, the next wave, and lines that come back."""
    events: list[Message] = []
    chunks = dividend_tables.chunks(tx, run.run_id)
    if run.state in (DECLARED, POSTING):
        events += _release_chunks(tx, run, DECLARED_KIND, chunks.get(DECLARED_KIND, (0, 0)), now)
        if run.state == DECLARED:
            _set_state(tx, run, POSTING)
        if not events and dividend_tables.count(tx, dividend_tables.PENDING_LINES, run.run_id) == 0:
            _set_state(tx, run, PAYING)
    elif run.state == PAYING:
        events += _release_chunks(tx, run, RETURNED_KIND, chunks.get(RETURNED_KIND, (0, 0)), now)
        events += _request_wave(tx, run, now)
        if not events:
            close_if_done(tx, [run.run_id], now)
    return events


def _set_state(tx: Connection, run: RunRow, state: str) -> None:
    tx.execute(dividend_tables.SET_STATE, {"run_id": run.run_id, "state": state})


def _release_chunks(tx: Connection, run: RunRow, kind: str, known: tuple[int, int], now: datetime) -> list[Message]:
    """Release chunks until so many are open. Their lines are those that belong to none."""
    last, open_count = known
    query = dividend_tables.TO_POST if kind == DECLARED_KIND else dividend_tables.TO_RETURN
    into = dividend_tables.IN_CHUNK if kind == DECLARED_KIND else dividend_tables.IN_RETURN_CHUNK
    events: list[Message] = []
    while open_count + len(events) < CHUNKS_OPEN_MAX:
        lines = dividend_tables.next_lines(tx, query, run.run_id, CHUNK_LINES_MAX)
        if not lines:
            break
        chunk = last + len(events) + 1
        into.run(tx, {"chunk": chunk, "ids": [line.line_id for line in lines]})
        saga_id = derived_id("dividend chunk", run.run_id, kind, chunk)
        tx.execute(
            dividend_tables.INSERT_CHUNK,
            {
                "run_id": run.run_id,
                "kind": kind,
                "chunk": chunk,
                "saga_id": saga_id,
                "line_count": len(lines),
                "at": now,
            },
        )
        events.append(_chunk(run, kind, chunk, saga_id, lines, now))
    return events


def _chunk(
    run: RunRow, kind: str, chunk: int, saga_id: str, lines: Sequence[LineRow], now: datetime
) -> DividendChunkReleased:
    return DividendChunkReleased(
        **_beginning("dividend_chunk", saga_id, now),
        run_id=run.run_id,
        chunk=chunk,
        kind=kind,
        currency=run.currency,
        lines=tuple(
            DividendLine(
                line_id=line.line_id,
                member_id=line.member_id,
                destination=line.destination,
                gross_minor=line.gross_minor,
                tax_minor=line.tax_minor,
                net_minor=line.net_minor,
            )
            for line in lines
        ),
    )


def _request_wave(tx: Connection, run: RunRow, now: datetime) -> list[Message]:
    """Request the next wave, or again the one that was refused, once its pause is over. One wave is open at a time."""
    waves = dividend_tables.waves(tx, run.run_id)
    waiting = next((wave for wave in waves if wave.state != "RESERVED"), None)
    if waiting is not None:
        if waiting.state != "WAITING" or waiting.due_at > now:
            return []
        attempt = waiting.attempt + 1
        saga_id = derived_id("dividend wave", run.run_id, waiting.wave, attempt)
        values = {"run_id": run.run_id, "wave": waiting.wave, "attempt": attempt, "saga_id": saga_id, "at": now}
        tx.execute(dividend_tables.REQUEST_WAVE, values)
        sums = (waiting.amount_minor, waiting.charge_minor, waiting.line_count)
        return [_wave(run, waiting.wave, attempt, saga_id, sums, now)]
    open_count = dividend_tables.count(tx, dividend_tables.RELEASED_LINES, run.run_id)
    size = min(WAVE_LINES_MAX, PAYOUTS_OPEN_MAX - open_count)
    lines = dividend_tables.next_lines(tx, dividend_tables.TO_PAY, run.run_id, size) if size > 0 else []
    if not lines:
        return []
    number = len(waves) + 1
    tariff = terms_tables.load_tariffs(tx).valid(now)
    sums = (
        sum(line.net_minor for line in lines),
        sum(tariff.charge_minor(line.net_minor) for line in lines),
        len(lines),
    )
    saga_id = derived_id("dividend wave", run.run_id, number, 1)
    dividend_tables.IN_WAVE.run(tx, {"wave": number, "ids": [line.line_id for line in lines]})
    values = {"run_id": run.run_id, "wave": number, "saga_id": saga_id, "at": now}
    sizes = dict(zip(("amount_minor", "charge_minor", "line_count"), sums, strict=True))
    tx.execute(dividend_tables.INSERT_WAVE, values | sizes)
    return [_wave(run, number, 1, saga_id, sums, now)]


def _wave(
    run: RunRow, wave: int, attempt: int, saga_id: str, sums: tuple[int, int, int], now: datetime
) -> DividendWaveRequested:
    amount_minor, charge_minor, payouts = sums
    return DividendWaveRequested(
        **_beginning("dividend_wave", saga_id, now),
        run_id=run.run_id,
        wave=wave,
        attempt=attempt,
        provider=run.provider,
        short_code=run.short_code,
        currency=run.currency,
        amount_minor=amount_minor,
        charge_minor=charge_minor,
        payouts=payouts,
    )


def release_wave(tx: Connection, run: RunRow, wave: int, cause: Message) -> list[Message]:
    """Return the events that begin the payouts of a wave whose float is reserved by the saga of ``cause``."""
    lines = dividend_tables.LINES_OF_WAVE.rows(tx, {"run_id": run.run_id, "wave": wave})
    phones = {number: row.phone for number, row in member_tables.load(tx, {line.member_id for line in lines}).items()}
    sagas = {line.line_id: derived_id("dividend payout", line.line_id) for line in lines}
    dividend_tables.release(tx, sagas, cause.occurred_at)
    return [
        DividendPayoutReleased(
            **_beginning("dividend_payout", sagas[line.line_id], cause.occurred_at, cause.message_id),
            run_id=run.run_id,
            line_id=line.line_id,
            wave_saga_id=cause.saga_id,
            member_id=line.member_id,
            provider=run.provider,
            short_code=run.short_code,
            phone=phones[line.member_id],
            currency=run.currency,
            amount_minor=line.net_minor,
            fee_minor=0,
            excise_minor=0,
        )
        for line in lines
    ]


def close_if_done(tx: Connection, run_ids: Sequence[str], now: datetime) -> None:
    """Close those of these runs whose lines have all ended, where the lines still are what two persons approved.

    A run whose lines do not add up stays open, with the reason: its total is what was paid, credited and returned.
    """
    for run_id, run in dividend_tables.lock_runs(tx, run_ids).items():
        if run.state != PAYING or run.failure_reason is not None or dividend_tables.has_open_lines(tx, run_id):
            continue
        lines = dividend_tables.lines(tx, run_id)
        sums = (len(lines), sum(line.gross_minor for line in lines), sum(line.net_minor for line in lines))
        approved = (run.line_count, run.gross_minor, run.net_minor)
        if sums != approved or hash_of(lines) != run.lines_sha256:
            reason = f"The lines are {sums} in number, gross and net; {approved} were approved. Compare them."
            tx.execute(dividend_tables.NOTE_FAILURE, {"run_id": run_id, "reason": reason})
            continue
        tx.execute(dividend_tables.CLOSE, {"run_id": run_id, "at": now})


def _beginning(saga_type: str, saga_id: str, at: datetime, cause: str | None = None) -> dict[str, Any]:
    return {
        "message_id": new_id(),
        "saga_id": saga_id,
        "saga_type": saga_type,
        "saga_version": SAGA_VERSION,
        "causation_id": cause,
        "occurred_at": at,
    }
