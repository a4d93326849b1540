"""Computes every closed day again: its totals from the entries that were sealed by then, its accounts and its root."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, text

from ledger.model.chain import CHAINS, parsed_heads
from ledger.store.batch_rows import AS_SEALED
from ledger.store.roots import NONE, Accounts, accounts_since, root_of

CLOSES = text("""
    SELECT chart, CAST(day AS text) AS day, root, heads, first_open_id, next_id, last_account_id, accounts_digest,
           coalesce(to_char(closed_until AT TIME ZONE 'UTC', 'YYYY-MM-DD-HH24-MI-SS-US'), '') AS closed_until,
           coalesce(to_char(closed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD-HH24-MI-SS-US'), '') AS closed_at
    FROM day_closes ORDER BY chart, day_closes.day
""")
STORED = text("""
    SELECT chart, CAST(day AS text) AS day, code, currency, CAST(debits AS text) AS debits,
           CAST(credits AS text) AS credits
    FROM day_totals
""")
HASHED = text("SET LOCAL enable_nestloop = off; SET LOCAL enable_sort = off")
"""Every entry is summed. PostgreSQL takes the groups for many, and would sort the entries and look up each account."""
HEADS = " ".join(f"WHEN {partition} THEN CAST(:heads_{partition} AS bigint[])" for partition in range(CHAINS))
SUMMED = text(f"""
    WITH sealed AS MATERIALIZED (
        SELECT id, width_bucket(position - 1, CASE partition {HEADS} END) AS close
        FROM batches WHERE position >= 1 AND partition >= 0 AND partition < :chains
    )
    SELECT greatest(close, width_bucket(
               effective_at, ARRAY(SELECT closed_until FROM day_closes WHERE chart = :chart ORDER BY day)
           )) AS close,
           code, currency, sum(greatest(amount_minor, 0)) AS debits, sum(greatest(-amount_minor, 0)) AS credits
    FROM transfer_entries
    JOIN accounts ON accounts.id = account_id AND chart = :chart
    JOIN sealed ON sealed.id = transfer_id >> 10
    WHERE NOT is_hold
    GROUP BY 1, code, currency
""")
"""Each sum with the number of the first close that has it: its value date is before the day's end, and its batch was
sealed then. Times of booking are not compared, because processes have clocks of their own."""

Totals = dict[tuple[str, str], tuple[str, str]]
"""Debits and credits by code and currency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """A closed day as it is stored. ``heads`` are None where they cannot be read."""

    chart: str
    day: str
    closed_until: str
    closed_at: str
    root: bytes
    printed_heads: str
    heads: Mapping[int, tuple[int, bytes]] | None
    ids: tuple[int, int]
    accounts: Accounts

    @property
    def name(self) -> str:
        return f"the closing of {self.chart} {self.day}"


def closes(tx: Connection) -> Sequence[Close]:
    """Return all closed days, by chart and in their order."""
    tx.execute(AS_SEALED)
    return [
        Close(
            chart=row.chart,
            day=row.day,
            closed_until=row.closed_until,
            closed_at=row.closed_at,
            root=bytes(row.root),
            printed_heads=row.heads,
            heads=_heads(row.heads),
            ids=(row.first_open_id, row.next_id),
            accounts=Accounts(last_id=row.last_account_id, digest=bytes(row.accounts_digest)),
        )
        for row in tx.execute(CLOSES)
    ]


def _heads(printed: str) -> Mapping[int, tuple[int, bytes]] | None:
    try:
        return parsed_heads(printed)
    except ValueError:
        return None


def damages(listed: Sequence[Close], tx: Connection) -> Iterator[str]:
    """Yield what differs between each closed day and what stands, as sentences."""
    stored = _stored(tx)
    for chart, of_chart in groupby(listed, key=lambda close: close.chart):
        days = list(of_chart)
        before = NONE
        for close, summed in zip(days, _summed(chart, days, tx), strict=True):
            found = stored.pop((close.chart, close.day), {})
            yield from _damages(close, before, found, tx)
            if close.heads is not None:
                yield from _differences(close, found, summed)
            before = close.accounts
    for chart, day in stored:
        yield f"the totals of {chart} {day} were inserted, or its closing was removed"


def _damages(close: Close, before: Accounts, totals: Totals, tx: Connection) -> Iterator[str]:
    if close.heads is None:
        yield f"the heads of {close.name} were changed"
    if accounts_since(close.chart, before, tx, last_id=close.accounts.last_id).digest != close.accounts.digest:
        yield f"an account of {close.chart} was changed, removed or inserted that {close.name} was the first to have"
    times = close.closed_until, close.closed_at
    lines = ((*key, *sums) for key, sums in totals.items())
    place = (close.chart, close.day, *map(str, close.ids))
    if root_of(place, times, close.printed_heads, close.accounts, lines) != close.root:
        yield f"{close.name} was changed, or its totals were: they differ from its root"


def _differences(close: Close, stored: Totals, summed: Totals) -> Iterator[str]:
    for code, currency in sorted(stored.keys() | summed.keys()):
        found, expected = (totals.get((code, currency), ("0", "0")) for totals in (stored, summed))
        if found != expected:
            yield (
                f"the totals of {close.chart} {close.day} {code} {currency} are {' and '.join(found)}, its entries sum "
                f"to {' and '.join(expected)}"
            )


def _stored(tx: Connection) -> dict[tuple[str, str], Totals]:
    tx.execute(AS_SEALED)
    found: dict[tuple[str, str], Totals] = {}
    for row in tx.execute(STORED):
        found.setdefault((row.chart, row.day), {})[row.code, row.currency] = (row.debits, row.credits)
    return found


def _summed(chart: str, days: Sequence[Close], tx: Connection) -> Iterator[Totals]:
    """Yield the totals of each of these days, from the entries that it was closed with."""
    by_close: dict[int, list[tuple[str, str, int, int]]] = {}
    heads: dict[int, list[int]] = {partition: [] for partition in range(CHAINS)}
    for day in days:
        for partition, positions in heads.items():
            before = positions[-1] if positions else 0
            positions.append(before if day.heads is None else day.heads.get(partition, (0, b""))[0])
    parameters = {f"heads_{partition}": positions for partition, positions in heads.items()}
    tx.execute(HASHED)
    for row in tx.execute(SUMMED, parameters | {"chart": chart, "chains": CHAINS}):
        by_close.setdefault(row.close, []).append((row.code, row.currency, int(row.debits), int(row.credits)))
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for close in range(len(days)):
        for code, currency, debits, credits_ in by_close.get(close, ()):
            before_debits, before_credits = sums.get((code, currency), (0, 0))
            sums[code, currency] = before_debits + debits, before_credits + credits_
        yield {key: (str(debits), str(credits_)) for key, (debits, credits_) in sums.items()}
