"""What becomes of a batch of requested transfers, decided in memory in the order of their arrival.

The caller has locked the balances. Each account is touched once a batch: the requests change it here, and one summed
update stores it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ledger.model.accounts import Account, Balance
from ledger.model.amounts import AMOUNT_MAX, SUM_MAX
from ledger.model.exchange import exchanged
from ledger.model.payments import NEXT, Payment, PaymentChange
from ledger.model.rows import EntryRow, TransferRow
from ledger.model.transfers import Booked, Entry, Origin, Outcome, Reason, Refused, Stored, Transfer, TransferKind

HOLD, POST, VOID, CORRECTION = TransferKind.HOLD, TransferKind.POST, TransferKind.VOID, TransferKind.CORRECTION
NAMES = {kind: kind.value for kind in TransferKind}
ENTRIES_MAX = 10_000
"""Entries of one transfer: a transfer is one decision, and its accounts are locked together. A settlement has two for
each merchant."""

Sides = Sequence[tuple[Balance, int]]
"""Balances with the amounts that they are debited (positive) or credited (negative)."""
Limited = Sequence[tuple[Balance, int, int]]
"""Balances with a limit, with what was available and expected before. What is held already was within the limit."""


@dataclass(slots=True, kw_only=True)
class Loaded:
    """What a batch has loaded, and what it adds.

    ``known`` are the stored transfers that the batch names, by reference; ``resolved`` are the holds among them that
    are posted or voided, with the reference that did it. ``closed_until`` is, by chart, the instant before which all
    days are closed. ``booked_at`` is not earlier than the latest booking of any of these balances.
    """

    accounts: Mapping[str, Account]
    balances: Mapping[int, Balance]
    ids: Iterator[int]
    booked_at: datetime
    known: dict[str, Stored] = field(default_factory=dict)
    resolved: dict[str, str] = field(default_factory=dict)
    payments: dict[str, Payment] = field(default_factory=dict)
    stored_payments: frozenset[str] = frozenset()
    closed_until: Mapping[str, datetime] = field(default_factory=dict)
    transfers: list[TransferRow] = field(default_factory=list)
    entries: list[EntryRow] = field(default_factory=list)
    changed_payments: dict[str, Payment] = field(default_factory=dict)


def decide(transfer: Transfer, loaded: Loaded) -> Outcome:
    """Book a transfer or refuse it. A refusal changes nothing."""
    known = loaded.known.get(transfer.reference)
    if known is not None:
        return _repeated(transfer, known, loaded)
    if transfer.payment is not None and (refused := _payment_refusal(transfer.payment, loaded)):
        return refused
    if transfer.kind.resolves:
        return _resolve(transfer, loaded)
    refused = _misnamed(transfer, loaded) or _expired(transfer, transfer.expires_at, loaded)
    if refused:
        return refused
    sides = _sides(transfer, transfer.entries, loaded)
    if isinstance(sides, Refused):
        return sides
    refused = _apply(sides, _limited(sides), is_hold=transfer.kind is HOLD)
    return refused or _book(transfer, transfer.entries, sides, loaded)


def _misnamed(transfer: Transfer, loaded: Loaded) -> Refused | None:
    """Refuse a correction of nothing, or of what moved nothing, and anything else that names another transfer."""
    if transfer.kind is not CORRECTION and transfer.of is None:
        return None
    named = loaded.known.get(transfer.of or "")
    if transfer.kind is CORRECTION and named is not None and named.kind not in (HOLD, VOID):
        return None
    detail = f"A {transfer.kind} cannot name {transfer.of}. A correction names what was booked; a hold is voided."
    return Refused(reason=Reason.CORRECTED_UNKNOWN, detail=detail)


def _expired(transfer: Transfer, expires_at: datetime | None, loaded: Loaded) -> Refused | None:
    """Refuse a hold, or the post of one, at and after its end."""
    if expires_at is None or expires_at > loaded.booked_at:
        return None
    name = transfer.reference if transfer.of is None else transfer.of
    return Refused(reason=Reason.HOLD_EXPIRED, detail=f"Hold {name} expired at {expires_at}.")


def _repeated(transfer: Transfer, known: Stored, loaded: Loaded) -> Outcome:
    """Return the first outcome for the same request again; another request under its reference is refused."""
    entries = transfer.entries
    if transfer.kind is POST and not entries and transfer.of in loaded.known:
        entries = loaded.known[transfer.of].entries
    is_same = (
        known.kind is transfer.kind
        and known.of == transfer.of
        and known.expires_at == transfer.expires_at
        and known.exchange_rate == transfer.exchange_rate
        and known.payment == transfer.payment
        and transfer.effective_at in (None, known.effective_at)
        and Counter(known.entries) == Counter(entries)
    )
    if is_same:
        return Booked(id=known.id, is_repeated=True)
    return Refused(
        reason=Reason.REFERENCE_IN_USE,
        detail=f"Reference {transfer.reference} belongs to another transfer, {known.id}.",
    )


def _payment_refusal(change: PaymentChange, loaded: Loaded) -> Refused | None:
    current = loaded.payments.get(change.payment_id)
    version = 0 if current is None else current.version
    if version != change.version:
        detail = f"Payment {change.payment_id} has version {version}, not {change.version}."
        return Refused(reason=Reason.PAYMENT_CONFLICT, detail=detail)
    status = None if current is None else current.status
    if change.status not in NEXT[status]:
        detail = f"Payment {change.payment_id} is {status or 'unknown'} and cannot become {change.status}."
        return Refused(reason=Reason.PAYMENT_TRANSITION, detail=detail)
    return None


def _sides(transfer: Transfer, entries: Sequence[Entry], loaded: Loaded) -> Sides | Refused:
    """Return the balances that these entries touch. They must be balanced, known, open and of their currency."""
    refused = _unbalanced(transfer, entries)
    if refused:
        return refused
    sides: list[tuple[Balance, int]] = []
    charts: dict[str, int] = {}
    for entry in entries:
        account = loaded.accounts.get(entry.account)
        if account is None:
            return Refused(reason=Reason.ACCOUNT_UNKNOWN, detail=f"No account {entry.account}.")
        if account.currency != entry.currency:
            detail = f"Account {entry.account} is in {account.currency}, the entry in {entry.currency}."
            return Refused(reason=Reason.CURRENCY_MISMATCH, detail=detail)
        balance = loaded.balances[account.id]
        if balance.is_closed and not transfer.kind.resolves:
            return Refused(reason=Reason.ACCOUNT_CLOSED, detail=f"Account {entry.account} is closed.")
        sides.append((balance, entry.amount_minor))
        charts[account.chart] = charts.get(account.chart, 0) + 1
    return sides if len(charts) == 1 else _unbalanced_books(entries, loaded) or sides


def _unbalanced_books(entries: Sequence[Entry], loaded: Loaded) -> Refused | None:
    """Refuse entries of several charts that do not sum to zero in each: every chart is a set of books of its own."""
    sums: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        sums[(loaded.accounts[entry.account].chart, entry.currency)] += entry.amount_minor
    for (chart, currency), total in sums.items():
        if total:
            detail = f"The entries in {currency} of chart {chart} sum to {total}, not to zero."
            return Refused(reason=Reason.UNBALANCED, detail=detail)
    return None


def _unbalanced(transfer: Transfer, entries: Sequence[Entry]) -> Refused | None:
    """Refuse entries that do not sum to zero in every currency, or whose amounts are out of range."""
    if len(entries) < 2:
        if not entries and transfer.payment is not None and transfer.kind is TransferKind.TRANSFER:
            return None  # it only moves a payment
        return Refused(reason=Reason.UNBALANCED, detail=f"{len(entries)} entries; a transfer has at least two.")
    if len(entries) > ENTRIES_MAX:
        return Refused(reason=Reason.AMOUNT_OUT_OF_RANGE, detail=f"{len(entries)} entries; at most {ENTRIES_MAX}.")
    sums: dict[str, int] = {}
    for entry in entries:
        if not -AMOUNT_MAX <= entry.amount_minor <= AMOUNT_MAX:
            return Refused(reason=Reason.AMOUNT_OUT_OF_RANGE, detail=f"{entry.amount_minor} needs more than 64 bits.")
        sums[entry.currency] = sums.get(entry.currency, 0) + entry.amount_minor
    for currency, total in sums.items():
        if total:
            return Refused(reason=Reason.UNBALANCED, detail=f"The entries in {currency} sum to {total}, not to zero.")
    if len(sums) > 1 or transfer.exchange_rate is not None:
        return _misexchanged(transfer, entries, list(sums))
    return None


def _misexchanged(transfer: Transfer, entries: Sequence[Entry], currencies: Sequence[str]) -> Refused | None:
    """Refuse an exchange whose amounts are not those of its rate. The first entry is in the currency that is sold."""
    rate = transfer.exchange_rate
    if rate is None:
        return Refused(reason=Reason.CURRENCY_MISMATCH, detail=f"{', '.join(currencies)} without an exchange rate.")
    if not rate.is_finite() or rate <= 0 or len(currencies) != 2:
        detail = f"An exchange has two currencies and a rate above zero, not {', '.join(currencies)} at {rate}."
        return Refused(reason=Reason.CURRENCY_MISMATCH, detail=detail)
    sold, bought = (
        sum(max(0, each.amount_minor) for each in entries if each.currency == currency) for currency in currencies
    )
    if bought != exchanged(sold, rate):
        detail = f"{sold} {currencies[0]} at {rate} is {exchanged(sold, rate)} {currencies[1]}, not {bought}."
        return Refused(reason=Reason.CURRENCY_MISMATCH, detail=detail)
    return None


def _limited(sides: Sides) -> Limited:
    """Return the balances that have a limit, as they stand now."""
    return [
        (balance, balance.available, balance.expected)
        for balance, _ in sides
        if balance.floor_minor is not None or balance.ceiling_minor is not None
    ]


def _apply(sides: Sides, limited: Limited, *, is_hold: bool) -> Refused | None:
    """Change the balances, or refuse and leave them as they are. Limits are checked once all entries are applied."""
    _add(sides, is_hold=is_hold, times=1)
    refused = _too_large(sides)
    for balance, available, expected in limited:
        refused = refused or _exceeded(balance, available, expected)
    if refused:
        _add(sides, is_hold=is_hold, times=-1)
        return refused
    return None


def _add(sides: Sides, *, is_hold: bool, times: int) -> None:
    for balance, amount_minor in sides:
        balance.is_changed = True
        if is_hold:
            if amount_minor > 0:
                balance.held_debits += times * amount_minor
            else:
                balance.held_credits -= times * amount_minor
        elif amount_minor > 0:
            balance.debits += times * amount_minor
        else:
            balance.credits -= times * amount_minor


def _too_large(sides: Sides) -> Refused | None:
    for balance, _ in sides:
        if max(balance.debits + balance.held_debits, balance.credits + balance.held_credits) > SUM_MAX:
            detail = f"The totals of account {balance.account_id} would exceed {SUM_MAX}."
            return Refused(reason=Reason.AMOUNT_OUT_OF_RANGE, detail=detail)
    return None


def _exceeded(balance: Balance, available: int, expected: int) -> Refused | None:
    """Refuse what goes beyond a limit. An account that is beyond it already may come nearer."""
    floor, ceiling = balance.floor_minor, balance.ceiling_minor
    if floor is not None and balance.available < floor and balance.available < available:
        detail = f"Account {balance.account_id} has {available} available and would have {balance.available}."
        return Refused(reason=Reason.INSUFFICIENT_FUNDS, detail=detail)
    if ceiling is not None and balance.expected > ceiling and balance.expected > expected:
        detail = f"Account {balance.account_id} may hold {ceiling} and would hold {balance.expected}."
        return Refused(reason=Reason.LIMIT_EXCEEDED, detail=detail)
    return None


def _resolve(transfer: Transfer, loaded: Loaded) -> Outcome:
    """Post or void a hold. All of it is released, whatever is posted."""
    hold = loaded.known.get(transfer.of or "")
    if hold is None or hold.kind is not HOLD:
        return Refused(reason=Reason.HOLD_UNKNOWN, detail=f"No hold {transfer.of}.")
    if (by := loaded.resolved.get(hold.reference)) is not None:
        return Refused(reason=Reason.HOLD_RESOLVED, detail=f"Hold {hold.reference} is resolved by {by}.")
    released = [(loaded.balances[loaded.accounts[each.account].id], each.amount_minor) for each in hold.entries]
    entries: tuple[Entry, ...] = ()
    sides: Sides = ()
    if transfer.kind is POST:
        if refused := _expired(transfer, hold.expires_at, loaded):
            return refused
        entries = transfer.entries or hold.entries
        found = _sides(transfer, entries, loaded)
        refused = found if isinstance(found, Refused) else _beyond_hold(entries, hold)
        if isinstance(found, Refused) or refused is not None:
            return refused or found  # type: ignore[return-value]  # one of them is the refusal
        sides = found
    elif transfer.entries:
        return Refused(reason=Reason.UNBALANCED, detail="A void has no entries.")
    limited = _limited(sides)
    _add(released, is_hold=True, times=-1)
    if refused := _apply(sides, limited, is_hold=False):
        _add(released, is_hold=True, times=1)
        return refused
    loaded.resolved[hold.reference] = transfer.reference
    return _book(transfer, entries, sides, loaded)


def _beyond_hold(entries: Sequence[Entry], hold: Stored) -> Refused | None:
    """Refuse a post of more than is held, by account and side."""
    held: Counter[tuple[str, bool]] = Counter()
    for each in hold.entries:
        held[(each.account, each.amount_minor > 0)] += abs(each.amount_minor)
    for each in entries:
        held[(each.account, each.amount_minor > 0)] -= abs(each.amount_minor)
    for (account, _), rest in held.items():
        if rest < 0:
            detail = f"{-rest} more on account {account} than hold {hold.reference} has."
            return Refused(reason=Reason.HOLD_EXCEEDED, detail=detail)
    return None


def _book(transfer: Transfer, entries: tuple[Entry, ...], sides: Sides, loaded: Loaded) -> Booked:
    """Add the rows of a transfer whose amounts are applied, and move its payment."""
    stored = Stored(
        id=next(loaded.ids),
        reference=transfer.reference,
        kind=transfer.kind,
        entries=entries,
        of=transfer.of,
        effective_at=transfer.effective_at or loaded.booked_at,
        booked_at=loaded.booked_at,
        expires_at=transfer.expires_at,
        exchange_rate=transfer.exchange_rate,
        payment=transfer.payment,
    )
    _add_entries(stored.id, sides, loaded, stored.effective_at, is_hold=transfer.kind is HOLD)
    loaded.transfers.append(_row(stored, transfer.origin, loaded))
    loaded.known[transfer.reference] = stored
    if (change := transfer.payment) is not None:
        seen = loaded.payments.get(change.payment_id)
        payment = Payment(
            payment_id=change.payment_id,
            version=change.version + 1,
            status=change.status,
            amounts=change.amounts or (None if seen is None else seen.amounts),
        )
        loaded.payments[change.payment_id] = loaded.changed_payments[change.payment_id] = payment
    return Booked(id=stored.id)


def _row(stored: Stored, origin: Origin, loaded: Loaded) -> TransferRow:
    effective_at, change = stored.effective_at, stored.payment
    return TransferRow(
        id=stored.id,
        reference=stored.reference,
        kind=NAMES[stored.kind],
        of_id=loaded.known[stored.of].id if stored.of in loaded.known else None,
        booked_at=stored.booked_at,
        effective_at=effective_at,
        expires_at=stored.expires_at,
        exchange_rate=stored.exchange_rate,
        is_late=_is_late(stored.entries, effective_at, loaded),
        entry_count=len(stored.entries),
        saga_id=origin.saga_id,
        step=origin.step,
        message_id=origin.message_id,
        payment_id=None if change is None else change.payment_id,
        payment_version=None if change is None else change.version + 1,
        payment_status=None if change is None else change.status.value,
    )


def _add_entries(id_: int, sides: Sides, loaded: Loaded, effective_at: datetime, *, is_hold: bool) -> None:
    """Add the entries, each with the totals after it. All of them are applied, so the totals are counted backward."""
    rest: dict[int, tuple[int, int]] = {}
    rows: list[EntryRow] = []
    booked_at = loaded.booked_at
    for ordinal in range(len(sides) - 1, -1, -1):
        balance, amount_minor = sides[ordinal]
        account_id = balance.account_id
        debits, credits_ = rest.get(account_id) or (balance.debits, balance.credits)
        rows.append(
            EntryRow(
                id_, ordinal, account_id, balance.lane, amount_minor, is_hold, booked_at, effective_at, debits, credits_
            )
        )
        if not is_hold:
            before = (debits - amount_minor, credits_) if amount_minor > 0 else (debits, credits_ + amount_minor)
            rest[account_id] = before
    rows.reverse()
    loaded.entries += rows


def _is_late(entries: Sequence[Entry], effective_at: datetime, loaded: Loaded) -> bool:
    """Return whether a day to which these entries belong was closed before they were booked."""
    if all(effective_at >= closed_until for closed_until in loaded.closed_until.values()):
        return False
    charts = {loaded.accounts[entry.account].chart for entry in entries}
    return any(chart in loaded.closed_until and effective_at < loaded.closed_until[chart] for chart in charts)
