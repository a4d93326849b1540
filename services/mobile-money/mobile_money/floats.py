"""The float of short codes: what the provider has shown, and what is reserved of it. It must never go back twice.

The known balance is the provider's own, shown with each payout and by its balance query. Between two of them what is
reserved is taken off, and a payout that is proven paid is taken off the balance as its reservation ends.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, DateTime, Index, Table, Text, func

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from mobile_money.domain import Float
from mobile_money.tables import metadata


class ReservationState(enum.StrEnum):
    """The state of a reservation."""

    RESERVED = "RESERVED"
    CONSUMED = "CONSUMED"
    """Its payout is proven paid."""
    RELEASED = "RELEASED"


floats = Table(
    "floats",
    metadata,
    Column("short_code", Text, primary_key=True),
    Column("utility_minor", BigInteger, comment="null: the provider has not shown it"),
    Column("working_minor", BigInteger),
    Column("charges_minor", BigInteger),
    Column("told_at", DateTime(timezone=True), comment="by the provider"),
    Column("members_reserve_minor", BigInteger, nullable=False, comment="what no wave may take"),
)
reservations = Table(
    "float_reservations",
    metadata,
    Column("saga_id", Text, primary_key=True),
    Column("short_code", Text, nullable=False),
    Column("wave_saga_id", Text, comment="the wave whose float it is of"),
    Column("amount_minor", BigInteger, nullable=False, comment="what is still reserved"),
    Column("state", Text, nullable=False),
    Column("reserved_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("ended_at", DateTime(timezone=True)),
)
Index(
    "float_reservations_open",
    reservations.c.short_code,
    postgresql_where=reservations.c.state == ReservationState.RESERVED.value,
)
RESERVATION = Columns.of(reservations, without=["reserved_at", "ended_at"], sources={"state": "state.value"})

ENSURE: Final = Statement("""
    INSERT INTO floats (short_code, members_reserve_minor)
    SELECT short_code, 0 FROM unnest(CAST(%(short_codes)s AS text[])) AS row (short_code)
    ORDER BY short_code
    ON CONFLICT (short_code) DO NOTHING
""")
LOCK: Final = Statement("""
    SELECT short_code, utility_minor, charges_minor, members_reserve_minor
    FROM floats
    WHERE short_code = ANY(CAST(%(short_codes)s AS text[]))
    ORDER BY short_code
    FOR UPDATE
""")
RESERVED: Final = Statement("""
    SELECT short_code, sum(amount_minor) AS reserved_minor
    FROM float_reservations
    WHERE state = 'RESERVED' AND short_code = ANY(CAST(%(short_codes)s AS text[]))
    GROUP BY short_code
""")
ADD: Final = Statement(f"""
    INSERT INTO float_reservations ({RESERVATION.names})
    SELECT {RESERVATION.values} FROM {RESERVATION.rows}
    ON CONFLICT (saga_id) DO NOTHING
""")
TAKE_OF_WAVE: Final = Statement("""
    WITH added AS (
        INSERT INTO float_reservations (saga_id, short_code, wave_saga_id, amount_minor, state)
        SELECT row.saga_id, row.short_code, row.wave_saga_id, row.amount_minor, 'RESERVED'
        FROM unnest(CAST(%(saga_ids)s AS text[]), CAST(%(short_codes)s AS text[]), CAST(%(waves)s AS text[]),
                    CAST(%(amounts)s AS bigint[])) AS row (saga_id, short_code, wave_saga_id, amount_minor)
        ORDER BY row.saga_id
        ON CONFLICT (saga_id) DO NOTHING
        RETURNING wave_saga_id, amount_minor
    ), taken AS (
        SELECT wave_saga_id, sum(amount_minor) AS amount_minor FROM added GROUP BY wave_saga_id
    )
    UPDATE float_reservations AS wave
    SET amount_minor = greatest(wave.amount_minor - taken.amount_minor, 0)
    FROM taken
    WHERE wave.saga_id = taken.wave_saga_id AND wave.state = 'RESERVED'
""")
END: Final = Statement("""
    WITH found AS (
        SELECT saga_id FROM float_reservations
        WHERE saga_id = ANY(CAST(%(saga_ids)s AS text[])) AND state = 'RESERVED'
        ORDER BY saga_id
        FOR UPDATE
    )
    UPDATE float_reservations AS reservation
    SET state = %(state)s, ended_at = now()
    FROM found
    WHERE reservation.saga_id = found.saga_id
    RETURNING reservation.saga_id, reservation.short_code, reservation.amount_minor
""")
SPEND: Final = Statement("""
    UPDATE floats
    SET utility_minor = floats.utility_minor - row.amount_minor
    FROM unnest(CAST(%(short_codes)s AS text[]), CAST(%(amounts)s AS bigint[])) AS row (short_code, amount_minor)
    WHERE floats.short_code = row.short_code
""")
TELL: Final = Statement("""
    INSERT INTO floats (short_code, utility_minor, working_minor, charges_minor, told_at, members_reserve_minor)
    VALUES (%(short_code)s, %(utility_minor)s, %(working_minor)s, %(charges_minor)s, %(at)s, 0)
    ON CONFLICT (short_code) DO UPDATE
    SET utility_minor = coalesce(excluded.utility_minor, floats.utility_minor),
        working_minor = coalesce(excluded.working_minor, floats.working_minor),
        charges_minor = coalesce(excluded.charges_minor, floats.charges_minor),
        told_at = excluded.told_at
    WHERE floats.told_at IS NULL OR floats.told_at <= excluded.told_at
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Float that is reserved for a payout, or for a wave of payouts."""

    saga_id: str
    short_code: str
    amount_minor: int
    wave_saga_id: str | None = None
    state: ReservationState = ReservationState.RESERVED


@dataclass(slots=True)
class Floats:
    """The floats of one batch, and what it reserves."""

    by_short_code: dict[str, Float] = field(default_factory=dict)
    reserved: list[Reservation] = field(default_factory=list)

    def of(self, short_code: str) -> Float:
        """Return the float of a short code."""
        return self.by_short_code.setdefault(short_code, Float(utility_minor=None, reserved_minor=0))

    def reserve(self, reservation: Reservation) -> None:
        """Reserve this."""
        self.of(reservation.short_code).reserved_minor += reservation.amount_minor
        self.reserved.append(reservation)


def lock(tx: Connection, short_codes: Collection[str]) -> Floats:
    """Lock the floats of these short codes, in one order everywhere."""
    wanted = {"short_codes": sorted(set(short_codes))}
    ENSURE.run(tx, wanted)
    rows = LOCK.rows(tx, wanted)
    reserved = {row.short_code: int(row.reserved_minor) for row in RESERVED.rows(tx, wanted)}
    found = {
        row.short_code: Float(
            utility_minor=row.utility_minor,
            reserved_minor=reserved.get(row.short_code, 0),
            members_reserve_minor=row.members_reserve_minor,
        )
        for row in rows
    }
    return Floats(by_short_code=found)


def save(floats: Floats, tx: Connection) -> None:
    """Save what a batch has reserved."""
    if floats.reserved:
        ADD.run(tx, RESERVATION.parameters(sorted(floats.reserved, key=lambda each: each.saga_id)))


def take_of_waves(tx: Connection, taken: Sequence[Reservation]) -> None:
    """Let payouts take their float from that of their waves, each once."""
    if not taken:
        return
    ordered = sorted(taken, key=lambda each: each.saga_id)
    TAKE_OF_WAVE.run(
        tx,
        {
            "saga_ids": [each.saga_id for each in ordered],
            "short_codes": [each.short_code for each in ordered],
            "waves": [each.wave_saga_id for each in ordered],
            "amounts": [each.amount_minor for each in ordered],
        },
    )


def release(tx: Connection, saga_ids: Collection[str]) -> set[str]:
    """Give back what is reserved for these sagas, and return those of them that had a reservation: each once."""
    return {row.saga_id for row in _end(tx, saga_ids, ReservationState.RELEASED)}


def consume(tx: Connection, saga_ids: Collection[str]) -> None:
    """End the reservations of payouts that are proven paid, and take them off the known balances."""
    spent: dict[str, int] = {}
    for row in _end(tx, saga_ids, ReservationState.CONSUMED):
        spent[row.short_code] = spent.get(row.short_code, 0) + row.amount_minor
    if spent:
        ordered = sorted(spent)
        SPEND.run(tx, {"short_codes": ordered, "amounts": [spent[each] for each in ordered]})


def tell(
    tx: Connection,
    short_code: str,
    *,
    at: datetime,
    utility_minor: int | None,
    working_minor: int | None = None,
    charges_minor: int | None = None,
) -> None:
    """Take over balances that the provider has shown, unless newer ones are known."""
    values = {"utility_minor": utility_minor, "working_minor": working_minor, "charges_minor": charges_minor}
    TELL.run(tx, {"short_code": short_code, "at": at, **values})


def _end(tx: Connection, saga_ids: Collection[str], state: ReservationState) -> Sequence[Any]:
    if not saga_ids:
        return ()
    return END.rows(tx, {"saga_ids": sorted(saga_ids), "state": state.value})
