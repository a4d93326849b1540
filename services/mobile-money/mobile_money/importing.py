"""A statement is imported: its rows are stored once, matched, and handed on as evidence of the highest rank.

What it does not show is handed in as well: only a statement without a gap, read late enough, proves that a request has
never arrived, and the chassis decides that. A row that could be a payout whose id it does not name is never guessed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from chassis.saga import evidence, missing
from chassis.saga.attempts import Outcome
from chassis.saga.attempts import Statement as Cover
from chassis.saga.evidence import Claim, Received, Source
from chassis.saga.outbox import OutboxRow
from chassis.values.json_text import compact
from chassis.wire.envelope import derived_id
from mobile_money import tariffs
from mobile_money.intake import Deciding, take_in
from mobile_money.known import kept_detail, prompts_by_reference
from mobile_money.port import Paid
from mobile_money.receipts import Arrival, Door
from mobile_money.short_codes import ShortCode
from mobile_money.statement_store import (
    ABSENT,
    ADD_FILE,
    ADD_ROWS,
    BEFORE,
    FILE,
    FILES,
    HAS_FILE,
    KNOWN,
    LOCK,
    REQUESTS,
    REVERSALS,
    ROW,
    StoredFile,
    StoredRow,
)
from mobile_money.statement_tables import CHARGES, UTILITY
from mobile_money.statements import Parsed, Row, RowKind, gaps_of, parse

OWN_ID: Final = re.compile(r"\bB[0-9A-HJKMNP-TV-Z]{19}\b")
REFERENCE: Final = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b")
CONVERSATION: Final = re.compile(r"\bAG_[0-9A-Za-z_]{8,64}\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A statement's file: of which account, and the time that it covers. Without that it covers its rows' times."""

    account: str
    name: str
    content: bytes
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    imported_by: str

    def id_at(self, short_code: str) -> str:
        """Return the hash of its content, of whose it is and of when: a day without rows is like any other one."""
        bounds = (None if each is None else each.isoformat() for each in (self.begins_at, self.ends_at))
        stated = compact([short_code, self.account, *bounds])
        return hashlib.sha256(stated.encode() + b"\n" + self.content).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import has found. ``rows_to_publish`` are the events of receipts that it has brought."""

    rows: int
    new_rows: int
    matched: int
    listed: int
    gaps: int
    is_repeated: bool = False
    rows_to_publish: tuple[OutboxRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Match:
    """What a row belongs to; without a saga it is listed with a reason."""

    saga_id: str | None = None
    reason: str | None = None


def import_file(tx: Connection, short_code: ShortCode, file: File, needed: Deciding, *, now: datetime) -> Imported:
    """Import a statement in the caller's transaction. The same file again changes nothing. Raises InvalidStatement.

    1. It is read and checked for gaps, also against what was imported before it.
    2. Incoming rows are receipts, outgoing ones evidence of payouts and reversals.
    3. Its rows are stored, each once.
    4. What it does not show is handed in.
    """
    LOCK.run(tx, {"short_code": short_code.short_code})
    keys = {"short_code": short_code.short_code, "account": file.account}
    if repeated := HAS_FILE.rows(tx, {"id": file.id_at(short_code.short_code), **keys}):
        (row,) = repeated
        return Imported(rows=row.rows, new_rows=0, matched=0, listed=0, gaps=row.gaps, is_repeated=True)
    # 1.
    parsed = parse(file.content.decode("utf-8-sig", "replace"))
    repeated_keys = len(parsed.rows) - len({each.key for each in parsed.rows})
    gaps = parsed.gaps + repeated_keys + _gap_before(tx, keys, parsed)
    # 2.
    fresh = _fresh(tx, keys, parsed.rows)
    matching = _Matching(tx, short_code, file, needed, now)
    matches = matching.match(fresh)
    # 3.
    stored = [_stored(short_code.short_code, file, each, matches[each.key]) for each in fresh]
    if stored:
        ADD_ROWS.run(tx, ROW.parameters(stored))
    _add_file(tx, short_code.short_code, file, parsed, len(fresh), gaps, now)
    # 4.
    if not gaps and file.account != CHARGES:
        _hand_in(tx, short_code, file, now)
    listed = sum(each.match == "LISTED" for each in stored)
    return Imported(
        rows=len(parsed.rows),
        new_rows=len(fresh),
        matched=len(stored) - listed,
        listed=listed,
        gaps=gaps,
        rows_to_publish=tuple(matching.rows),
    )


def _gap_before(tx: Connection, keys: dict[str, str], parsed: Parsed) -> int:
    """Return 1 where the first row does not follow the last one that was imported before it."""
    if not parsed.rows:
        return 0
    before = BEFORE.rows(tx, {**keys, "at": parsed.rows[0].completed_at})
    return gaps_of(parsed.rows[:1], before[0].balance_minor) if before else 0


def _fresh(tx: Connection, keys: dict[str, str], rows: Sequence[Row]) -> list[Row]:
    """Return the rows that are new, or that were listed before and may match now."""
    known = {
        (row.receipt, row.kind): row.match
        for row in KNOWN.rows(tx, {**keys, "receipts": sorted({each.receipt for each in rows})})
    }
    found: dict[tuple[str, str], Row] = {}
    for each in rows:
        if known.get(each.key) != "MATCHED":
            found.setdefault(each.key, each)
    return list(found.values())


class _Matching:
    """The matches of one file's rows, in one transaction."""

    def __init__(self, tx: Connection, short_code: ShortCode, file: File, needed: Deciding, now: datetime) -> None:
        self._tx = tx
        self._code = short_code
        self._file = file
        self._needed = needed
        self._now = now
        self._evidence: list[Received] = []
        self.rows: list[OutboxRow] = []

    def match(self, rows: Sequence[Row]) -> dict[tuple[str, str], _Match]:
        """Return what each row belongs to, having handed it on."""
        matches = self._incoming([each for each in rows if each.kind is RowKind.IN])
        matches |= self._outgoing([each for each in rows if each.kind in (RowKind.OUT, RowKind.CHARGE)])
        matches |= self._reversed([each for each in rows if each.kind is RowKind.REVERSAL])
        for each in rows:
            matches.setdefault(each.key, _Match(reason="a transfer between accounts"))
        evidence.store(self._tx, self._evidence)
        return matches

    def _incoming(self, rows: Sequence[Row]) -> dict[tuple[str, str], _Match]:
        if self._file.account == CHARGES:
            return {each.key: _Match(reason="charges that were paid") for each in rows}
        references = {(self._code.short_code, each.reference.upper()) for each in rows if each.reference}
        prompts = prompts_by_reference(self._tx, references)
        arrivals = []
        for each in rows:
            prompt = prompts.get((self._code.short_code, (each.reference or "").upper()))
            arrivals.append(
                Arrival(
                    provider=self._code.provider,
                    short_code=self._code.short_code,
                    receipt=each.receipt,
                    currency=self._code.currency,
                    amount_minor=each.amount_minor,
                    completed_at=each.completed_at,
                    door=Door.STATEMENT,
                    source_id=self._file.id_at(self._code.short_code),
                    reference=each.reference,
                    collection_id=None if prompt is None else prompt.saga_id,
                    payer_hash=self._needed.payer_hash(each.phone),
                    received_at=self._now,
                )
            )
        taken = take_in(self._tx, arrivals, self._needed.codec, now=self._now)
        self.rows += taken.rows
        return {
            (each.receipt, RowKind.IN.value): _Match(reason="another amount than its receipt had")
            if each.key in taken.different
            else _Match(saga_id=each.saga_id)
            for each in arrivals
        }

    def _outgoing(self, rows: Sequence[Row]) -> dict[tuple[str, str], _Match]:
        """Match payouts and their charges: by our id, by the provider's, or by the receipt that we know."""
        if not rows:
            return {}
        named = {each.key: _named(each) for each in rows}
        requests = REQUESTS.rows(
            self._tx,
            {
                "short_code": self._code.short_code,
                "own_ids": sorted({own_id for own_id, _ in named.values() if own_id}),
                "provider_ids": sorted({known for _, known in named.values() if known}),
                "receipts": sorted({each.receipt for each in rows}),
            },
        )
        by_own = {row.own_id: row for row in requests}
        by_provider = {row.provider_id: row for row in requests if row.provider_id}
        by_receipt = {row.receipt: row for row in requests if row.receipt}
        lines = tariffs.read(self._tx)
        matches: dict[tuple[str, str], _Match] = {}
        for each in sorted(rows, key=lambda row: row.kind is RowKind.CHARGE):
            own_id, provider_id = named[each.key]
            request = by_own.get(own_id or "") or by_provider.get(provider_id or "") or by_receipt.get(each.receipt)
            if request is None:
                matches[each.key] = _Match(reason="no payout is known by it")
            elif each.kind is RowKind.CHARGE:
                matches[each.key] = self._charge(each, request, lines)
            else:
                by_receipt[each.receipt] = request
                self._prove(each, request, lines)
                matches[each.key] = _Match(saga_id=request.saga_id)
        return matches

    def _charge(self, row: Row, request: Any, lines: Sequence[tariffs.Tariff]) -> _Match:
        due = tariffs.charge_minor(lines, self._code.provider, request.amount_minor or 0, row.completed_at)
        if due != abs(row.amount_minor):
            return _Match(reason=f"the charge is {abs(row.amount_minor)}, by the tariff {due}")
        return _Match(saga_id=request.saga_id)

    def _prove(self, row: Row, request: Any, lines: Sequence[tariffs.Tariff]) -> None:
        amount = abs(row.amount_minor)
        paid = Paid(
            receipt=row.receipt,
            amount_minor=amount,
            completed_at=row.completed_at,
            charge_minor=tariffs.charge_minor(lines, self._code.provider, amount, row.completed_at),
        )
        self._add_evidence(request.key, row.receipt, kept_detail(self._tx, request.key, paid))

    def _reversed(self, rows: Sequence[Row]) -> dict[tuple[str, str], _Match]:
        """Match reversals: by their own receipt, or by that of the payment which went back."""
        if not rows:
            return {}
        receipts = {receipt for each in rows for receipt in _receipts(each)}
        found = REVERSALS.rows(self._tx, {"short_code": self._code.short_code, "receipts": sorted(receipts)})
        by_receipt = {row.receipt: row for row in found} | {
            row.reversal_receipt: row for row in found if row.reversal_receipt
        }
        matches = {}
        for each in rows:
            request = next((by_receipt[known] for known in _receipts(each) if known in by_receipt), None)
            if request is None:
                matches[each.key] = _Match(reason="no reversal of ours")
                continue
            amount = abs(each.amount_minor)
            paid = Paid(receipt=each.receipt, amount_minor=amount, completed_at=each.completed_at)
            self._add_evidence(request.key, each.receipt, kept_detail(self._tx, request.key, paid, is_one=True))
            matches[each.key] = _Match(saga_id=request.saga_id)
        return matches

    def _add_evidence(self, key: str, receipt: str, detail: str) -> None:
        self._evidence.append(
            Received(
                id=derived_id("statement", key, receipt),
                provider=self._code.provider,
                source=Source.STATEMENT,
                received_at=self._now,
                headers=(),
                body=f"{self._file.name}: {receipt}".encode(),
                claim=Claim(outcome=Outcome.SUCCEEDED, key=key, reference=receipt, detail=detail),
            )
        )


def _hand_in(tx: Connection, short_code: ShortCode, file: File, now: datetime) -> None:
    """Hand in what files without a gap cover together, for the open attempts that they do not show."""
    cover = cover_of(tx, short_code.short_code, file.account, now)
    if cover is None or file.account != UTILITY:
        return
    values = {"short_code": short_code.short_code, "begins_at": cover.covers_from, "ends_at": cover.covers_until}
    keys = {row.key for row in ABSENT.rows(tx, values)}
    statement_id = file.id_at(short_code.short_code)
    missing.hand_in(tx, keys, cover, provider=short_code.provider, statement_id=statement_id, now=now)


def cover_of(tx: Connection, short_code: str, account: str, now: datetime) -> Cover | None:
    """Return the last time without a break that files without a gap cover; None without any."""
    merged: Cover | None = None
    for row in FILES.rows(tx, {"short_code": short_code, "account": account}):
        if merged is not None and row.begins_at <= merged.covers_until:
            merged = replace(merged, covers_until=max(merged.covers_until, row.ends_at))
        else:
            merged = Cover(covers_from=row.begins_at, covers_until=row.ends_at, read_at=now)
    return merged


def _named(row: Row) -> tuple[str | None, str | None]:
    """Return our id and the provider's that a row names."""
    text = " ".join(filter(None, (row.details, row.reference, row.linked)))
    own, conversation = OWN_ID.search(text) or REFERENCE.search(text), CONVERSATION.search(text)
    return (None if own is None else own[0]), (None if conversation is None else f"daraja:{conversation[0]}")


def _receipts(row: Row) -> list[str]:
    """Return the receipts that a row of a reversal names, its own first."""
    words = re.findall(r"\b[A-Z0-9]{10}\b", f"{row.linked or ''} {row.details}".upper())
    return [row.receipt, *words]


def _stored(short_code: str, file: File, row: Row, match: _Match) -> StoredRow:
    return StoredRow(
        short_code=short_code,
        receipt=row.receipt,
        account=file.account,
        kind=row.kind.value,
        completed_at=row.completed_at,
        amount_minor=row.amount_minor,
        balance_minor=row.balance_minor,
        status=row.status,
        details=row.details,
        reference=row.reference,
        party=row.shown_party,
        file_id=file.id_at(short_code),
        position=row.position,
        match="LISTED" if match.saga_id is None else "MATCHED",
        saga_id=match.saga_id,
        reason=match.reason,
    )


def _add_file(
    tx: Connection, short_code: str, file: File, parsed: Parsed, new_rows: int, gaps: int, now: datetime
) -> None:
    first, last = (parsed.rows[0], parsed.rows[-1]) if parsed.rows else (None, None)
    row = StoredFile(
        id=file.id_at(short_code),
        short_code=short_code,
        account=file.account,
        name=file.name,
        begins_at=file.begins_at or parsed.begins_at or (now if first is None else first.completed_at),
        ends_at=file.ends_at or parsed.ends_at or (now if last is None else last.completed_at),
        rows=len(parsed.rows),
        new_rows=new_rows,
        gaps=gaps,
        last_balance_minor=parsed.closing_minor,
        imported_by=file.imported_by,
        imported_at=now,
    )
    ADD_FILE.run(tx, FILE.parameters([row]))
