"""Every statement on dividend runs, their lines, and the chunks and waves in which these are posted and paid."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection, Row, text

from chassis.postgres.columns import SQLALCHEMY, Columns
from chassis.postgres.statement import Statement
from members.dividends import Held, Line
from members.tables import dividend_lines, dividend_runs

RunRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``dividend_runs``."""
LineRow: TypeAlias = Row[tuple[Any, ...]]
"""A row of ``dividend_lines``."""
COMPUTED, APPROVED, DECLARED, POSTING, PAYING, CLOSED, REFUSED = (
    "COMPUTED", "APPROVED", "DECLARED", "POSTING", "PAYING", "CLOSED", "REFUSED",
)  # fmt: skip
"""The states of a run."""
INSERT_MAX: Final = 5_000
"""Lines that one statement stores."""

RUN_COLUMNS = Columns.of(dividend_runs, parameter=SQLALCHEMY)
NEW_RUN = RUN_COLUMNS.only(
    "run_id", "year", "dividend_ppm", "rebate_ppm", "dividend_tax_ppm", "rebate_tax_ppm", "provider", "short_code",
    "currency", "line_count", "gross_minor", "tax_minor", "net_minor", "lines_sha256", "regulator_reference",
    "meeting_reference", "proposed_by", "reason", "proposed_at",
)  # fmt: skip
LINE_COLUMNS = Columns.of(dividend_lines)
NEW_LINES = LINE_COLUMNS.only(*Line.__dataclass_fields__)

HELD = text("""
    SELECT member_id, kind,
           CAST(sum(amount_minor * CASE WHEN month < :begins THEN 12 ELSE 13 - extract(month FROM month)::int END)
                AS bigint) AS amount_months
    FROM holdings WHERE month < :ends GROUP BY member_id, kind
""")

INSERT_RUN = text(f"""
    INSERT INTO dividend_runs ({NEW_RUN.names}, state) VALUES ({", ".join(f":{name}" for name in NEW_RUN)}, 'COMPUTED')
    ON CONFLICT (run_id) DO NOTHING
""")

INSERT_LINES = Statement(f"""
    INSERT INTO dividend_lines ({NEW_LINES.names}, run_id, state)
    SELECT {NEW_LINES.values}, %(run_id)s, 'PENDING' FROM {NEW_LINES.rows}
""")

DELETE_LINES = text("DELETE FROM dividend_lines WHERE run_id = :run_id")
DELETE_RUN = text("DELETE FROM dividend_runs WHERE run_id = :run_id AND state = 'COMPUTED'")

LOCK_RUNS = Statement(f"""
    SELECT {RUN_COLUMNS.names} FROM dividend_runs WHERE run_id = ANY(CAST(%(ids)s AS text[]))
    ORDER BY run_id FOR UPDATE
""")

RUN = text(f"SELECT {RUN_COLUMNS.names} FROM dividend_runs WHERE run_id = :run_id")
RUNS = text(f"SELECT {RUN_COLUMNS.names} FROM dividend_runs ORDER BY proposed_at DESC, run_id LIMIT :limit")
RUN_OF_SAGA = Statement("SELECT run_id, saga_id FROM dividend_runs WHERE saga_id = ANY(CAST(%(ids)s AS text[]))")
NEXT_OPEN = text(f"""
    SELECT {RUN_COLUMNS.names} FROM dividend_runs
    WHERE state IN ('DECLARED', 'POSTING', 'PAYING') AND run_id > :after
    ORDER BY run_id LIMIT 1 FOR UPDATE SKIP LOCKED
""")

LINES = text(f"SELECT {LINE_COLUMNS.names} FROM dividend_lines WHERE run_id = :run_id ORDER BY line_id")
PAGE = text(f"""
    SELECT {LINE_COLUMNS.names} FROM dividend_lines
    WHERE run_id = :run_id AND line_id > :after AND (CAST(:state AS text) IS NULL OR state = :state)
    ORDER BY line_id LIMIT :limit
""")
SUMS = text("""
    SELECT state, destination, count(*) AS line_count, sum(gross_minor)::bigint AS gross_minor,
           sum(tax_minor)::bigint AS tax_minor, sum(net_minor)::bigint AS net_minor
    FROM dividend_lines WHERE run_id = :run_id GROUP BY state, destination ORDER BY state, destination
""")

APPROVE = text("""
    UPDATE dividend_runs
    SET state = 'APPROVED', saga_id = :saga_id, approved_by = :by, approval_reason = :reason, approved_at = :at,
        failure_reason = NULL
    WHERE run_id = :run_id AND state = 'COMPUTED' AND lower(proposed_by) <> lower(:by)
""")
REFUSE = text("""
    UPDATE dividend_runs SET state = 'REFUSED', failure_reason = :reason, closed_at = :at
    WHERE run_id = :run_id AND state = 'COMPUTED'
""")
SET_STATE = text("UPDATE dividend_runs SET state = :state WHERE run_id = :run_id")
CLOSE = text("UPDATE dividend_runs SET state = 'CLOSED', closed_at = :at, failure_reason = NULL WHERE run_id = :run_id")
NOTE_FAILURE = text("UPDATE dividend_runs SET failure_reason = :reason WHERE run_id = :run_id")

DECLARED_NOW = Statement("""
    UPDATE dividend_runs SET state = 'DECLARED' WHERE saga_id = ANY(CAST(%(ids)s AS text[])) AND state = 'APPROVED'
""")
NOT_DECLARED = Statement("""
    UPDATE dividend_runs
    SET state = 'COMPUTED', failure_reason = failed.reason, approved_by = NULL, approved_at = NULL,
        approval_reason = NULL
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(reasons)s AS text[])) AS failed (saga_id, reason)
    WHERE dividend_runs.saga_id = failed.saga_id AND dividend_runs.state = 'APPROVED'
""")

TO_POST = Statement(f"""
    SELECT {LINE_COLUMNS.names} FROM dividend_lines
    WHERE run_id = %(run_id)s AND state = 'PENDING' AND chunk IS NULL ORDER BY line_id LIMIT %(limit)s
""")
TO_RETURN = Statement(f"""
    SELECT {LINE_COLUMNS.names} FROM dividend_lines
    WHERE run_id = %(run_id)s AND state = 'RETURNING' AND return_chunk IS NULL ORDER BY line_id LIMIT %(limit)s
""")
TO_PAY = Statement(f"""
    SELECT {LINE_COLUMNS.names} FROM dividend_lines
    WHERE run_id = %(run_id)s AND state = 'POSTED' AND destination = 'MOBILE' AND wave IS NULL
    ORDER BY line_id LIMIT %(limit)s
""")
LINES_OF_WAVE = Statement(f"""
    SELECT {LINE_COLUMNS.names} FROM dividend_lines
    WHERE run_id = %(run_id)s AND wave = %(wave)s AND state = 'POSTED' ORDER BY line_id FOR UPDATE
""")
IN_CHUNK = Statement("""
    UPDATE dividend_lines SET chunk = %(chunk)s WHERE line_id = ANY(CAST(%(ids)s AS text[]))
""")
IN_RETURN_CHUNK = Statement("""
    UPDATE dividend_lines SET return_chunk = %(chunk)s WHERE line_id = ANY(CAST(%(ids)s AS text[]))
""")
IN_WAVE = Statement("UPDATE dividend_lines SET wave = %(wave)s WHERE line_id = ANY(CAST(%(ids)s AS text[]))")

INSERT_CHUNK = text("""
    INSERT INTO dividend_chunks (run_id, kind, chunk, saga_id, line_count, state, released_at)
    VALUES (:run_id, :kind, :chunk, :saga_id, :line_count, 'RELEASED', :at)
""")
CHUNKS = text("""
    SELECT kind, max(chunk) AS last, count(*) FILTER (WHERE state = 'RELEASED') AS open
    FROM dividend_chunks WHERE run_id = :run_id GROUP BY kind
""")
END_CHUNK = text("""
    UPDATE dividend_chunks SET state = :state, failure_reason = :reason, ended_at = :at
    WHERE saga_id = :saga_id AND state = 'RELEASED'
    RETURNING run_id, kind, chunk
""")
CHUNK_POSTED = text("""
    UPDATE dividend_lines SET state = 'POSTED' WHERE run_id = :run_id AND chunk = :chunk AND state = 'PENDING'
    RETURNING line_id, member_id, destination, net_minor
""")
CHUNK_FAILED = text(
    "UPDATE dividend_lines SET chunk = NULL WHERE run_id = :run_id AND chunk = :chunk AND state = 'PENDING'"
)
RETURN_POSTED = text("""
    UPDATE dividend_lines SET state = 'RETURNED'
    WHERE run_id = :run_id AND return_chunk = :chunk AND state = 'RETURNING'
""")
RETURN_FAILED = text("""
    UPDATE dividend_lines SET return_chunk = NULL
    WHERE run_id = :run_id AND return_chunk = :chunk AND state = 'RETURNING'
""")

WAVES = text("""
    SELECT run_id, wave, attempt, saga_id, line_count, amount_minor, charge_minor, state, refusal, requested_at, due_at,
           reserved_at
    FROM dividend_waves WHERE run_id = :run_id ORDER BY wave
""")
INSERT_WAVE = text("""
    INSERT INTO dividend_waves (run_id, wave, attempt, saga_id, line_count, amount_minor, charge_minor, state,
                                requested_at)
    VALUES (:run_id, :wave, 1, :saga_id, :line_count, :amount_minor, :charge_minor, 'REQUESTED', :at)
""")
REQUEST_WAVE = text("""
    UPDATE dividend_waves SET state = 'REQUESTED', attempt = :attempt, saga_id = :saga_id, requested_at = :at,
        due_at = NULL
    WHERE run_id = :run_id AND wave = :wave AND state = 'WAITING'
""")
RESERVE_WAVE = text("""
    UPDATE dividend_waves SET state = 'RESERVED', reserved_at = :at, refusal = NULL
    WHERE saga_id = :saga_id AND state = 'REQUESTED'
    RETURNING run_id, wave
""")
REFUSE_WAVE = text("""
    UPDATE dividend_waves
    SET state = 'WAITING', refusal = :refusal,
        due_at = CAST(:at AS timestamptz)
                 + make_interval(secs => least(CAST(:longest_s AS float8), :first_s * power(2, least(attempt - 1, 20))))
    WHERE saga_id = :saga_id AND state = 'REQUESTED'
    RETURNING run_id, wave
""")
RELEASE = Statement("""
    UPDATE dividend_lines SET state = 'RELEASED', saga_id = released.saga_id, released_at = %(at)s
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(sagas)s AS text[])) AS released (line_id, saga_id)
    WHERE dividend_lines.line_id = released.line_id AND dividend_lines.state = 'POSTED'
""")
LOCK_PAYOUTS = Statement("""
    SELECT line_id, run_id, saga_id, state FROM dividend_lines WHERE saga_id = ANY(CAST(%(ids)s AS text[]))
    ORDER BY line_id FOR UPDATE
""")
END_PAYOUTS = Statement("""
    UPDATE dividend_lines SET state = ended.state, receipt = ended.receipt, failure_reason = ended.reason
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(receipts)s AS text[]),
                CAST(%(reasons)s AS text[])) AS ended (saga_id, state, receipt, reason)
    WHERE dividend_lines.saga_id = ended.saga_id AND dividend_lines.state = 'RELEASED'
""")
HAS_OPEN_LINES = text("""
    SELECT EXISTS (
        SELECT FROM dividend_lines WHERE run_id = :run_id AND state IN ('PENDING', 'RELEASED', 'RETURNING')
    ) OR EXISTS (
        SELECT FROM dividend_lines WHERE run_id = :run_id AND state = 'POSTED' AND destination = 'MOBILE'
    )
""")
"""A line ends as PAID or RETURNED, and one to an account as POSTED."""
RELEASED_LINES = text("SELECT count(*) FROM dividend_lines WHERE run_id = :run_id AND state = 'RELEASED'")
PENDING_LINES = text("SELECT count(*) FROM dividend_lines WHERE run_id = :run_id AND state = 'PENDING'")


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedPayout:
    """The end of the payout of a line, by its saga: PAID, or RETURNING where it failed."""

    saga_id: str
    state: str
    receipt: str | None = None
    reason: str | None = None


def held(tx: Connection, year: int) -> Iterator[Held]:
    """Yield what each member held of each kind in a year: what was added in January earns 12 months, in December 1."""
    values = {"begins": date(year, 1, 1), "ends": date(year + 1, 1, 1)}
    for row in tx.execute(HELD, values):
        yield Held(member_id=row.member_id, kind=row.kind, amount_months=row.amount_months)


def insert_run(tx: Connection, run: Mapping[str, object], lines: Sequence[Line]) -> bool:
    """Store a run as COMPUTED with its lines. Return False where the id is taken."""
    if tx.execute(INSERT_RUN, dict(run)).rowcount != 1:
        return False
    for begin in range(0, len(lines), INSERT_MAX):
        INSERT_LINES.run(tx, {**NEW_LINES.parameters(lines[begin : begin + INSERT_MAX]), "run_id": run["run_id"]})
    return True


def delete_computed(tx: Connection, run_id: str) -> None:
    """Delete a run that is computed and not approved, so that it can be computed anew."""
    tx.execute(DELETE_LINES, {"run_id": run_id})
    tx.execute(DELETE_RUN, {"run_id": run_id})


def lock_runs(tx: Connection, ids: Collection[str]) -> dict[str, RunRow]:
    """Lock runs in the order of their ids, and return them."""
    return {row.run_id: row for row in LOCK_RUNS.rows(tx, {"ids": sorted(ids)})} if ids else {}


def find(tx: Connection, run_id: str) -> RunRow | None:
    """Return a run, None where there is none."""
    return tx.execute(RUN, {"run_id": run_id}).one_or_none()


def lines(tx: Connection, run_id: str) -> list[Line]:
    """Return all lines of a run as they were computed."""
    names = tuple(Line.__dataclass_fields__)
    rows = tx.execute(LINES, {"run_id": run_id})
    return [Line(**{name: getattr(row, name) for name in names}) for row in rows]


def next_lines(tx: Connection, query: Statement, run_id: str, limit: int) -> list[LineRow]:
    """Return the next lines that a query finds: those that belong to no chunk, or to no wave."""
    return query.rows(tx, {"run_id": run_id, "limit": limit})


def has_open_lines(tx: Connection, run_id: str) -> bool:
    """Return whether some line of a run has not ended."""
    return bool(tx.execute(HAS_OPEN_LINES, {"run_id": run_id}).scalar_one())


def chunks(tx: Connection, run_id: str) -> dict[str, tuple[int, int]]:
    """Return by kind the last chunk's number, and how many chunks are open."""
    return {row.kind: (row.last, row.open) for row in tx.execute(CHUNKS, {"run_id": run_id})}


def waves(tx: Connection, run_id: str) -> list[Any]:
    """Return the waves of a run."""
    return list(tx.execute(WAVES, {"run_id": run_id}))


def count(tx: Connection, query: Any, run_id: str) -> int:
    """Return how many lines of a run a query finds."""
    return int(tx.execute(query, {"run_id": run_id}).scalar_one())


def lock_payouts(tx: Connection, sagas: Collection[str]) -> dict[str, LineRow]:
    """Lock the lines of these payouts in one order, and return them by saga."""
    return {row.saga_id: row for row in LOCK_PAYOUTS.rows(tx, {"ids": sorted(sagas)})} if sagas else {}


def end_payouts(tx: Connection, ended: Sequence[EndedPayout]) -> None:
    """Note how payouts ended, once."""
    if ended:
        parameters = {
            "ids": [each.saga_id for each in ended],
            "states": [each.state for each in ended],
            "receipts": [each.receipt for each in ended],
            "reasons": [each.reason for each in ended],
        }
        END_PAYOUTS.run(tx, parameters)


def release(tx: Connection, sagas: Mapping[str, str], at: datetime) -> None:
    """Note the sagas that pay lines, by line."""
    RELEASE.run(tx, {"ids": list(sagas), "sagas": list(sagas.values()), "at": at})
