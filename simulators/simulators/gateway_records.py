"""The state of a gateway with accounts: besides records, its idempotency keys, webhooks, books, feeds and clock."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from simulators.records import SCHEMA, JsonObject, Record, Records

GATEWAY_SCHEMA = """
CREATE INDEX IF NOT EXISTS records_found ON records (kind, reference);
CREATE TABLE IF NOT EXISTS keys (
    account TEXT NOT NULL, key TEXT NOT NULL, fingerprint BLOB NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL,
    answered_at REAL NOT NULL, PRIMARY KEY (account, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hooks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, event TEXT NOT NULL, reference TEXT NOT NULL,
    body TEXT NOT NULL, due_at REAL NOT NULL, sends INTEGER NOT NULL DEFAULT 0, state TEXT NOT NULL DEFAULT 'due'
);
CREATE INDEX IF NOT EXISTS hooks_due ON hooks (state, due_at);
CREATE TABLE IF NOT EXISTS happenings (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, subject TEXT NOT NULL, details TEXT NOT NULL,
    due_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS happenings_due ON happenings (due_at);
CREATE TABLE IF NOT EXISTS lines (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, batch INTEGER NOT NULL, reference TEXT NOT NULL,
    is_principal INTEGER NOT NULL, line TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS lines_of_batch ON lines (account, batch);
CREATE TABLE IF NOT EXISTS batches (
    account TEXT NOT NULL, batch INTEGER NOT NULL, closed_at REAL NOT NULL, PRIMARY KEY (account, batch)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feeds (
    account TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (account, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS divergences (
    id INTEGER PRIMARY KEY AUTOINCREMENT, account TEXT NOT NULL, batch INTEGER NOT NULL, kind TEXT NOT NULL,
    reference TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS clock (one INTEGER PRIMARY KEY, offset_s REAL NOT NULL);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """The answer that an idempotency key has, and when it got it."""

    fingerprint: bytes
    status: int
    body: JsonObject
    answered_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A webhook that is due. ``body`` has no signature yet."""

    id: int
    account: str
    event: str
    body: JsonObject
    sends: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that happens later without a request: a capture that fails, an authorization that ends."""

    id: int
    kind: str
    subject: str
    details: JsonObject


class GatewayRecords(Records):
    """The state of a gateway with accounts. Every change happens inside ``transaction``."""

    TABLES: ClassVar[str] = SCHEMA + GATEWAY_SCHEMA

    def of_reference(self, kind: str, reference: str) -> list[Record]:
        """Return the records of a kind with the caller's reference, in the order of their creation."""
        rows = self._connection.execute(
            "SELECT id, state, fields FROM records WHERE kind = ? AND reference = ? ORDER BY seq", (kind, reference)
        )
        return [
            Record(kind=kind, id=record_id, reference=reference, state=state, fields=json.loads(fields))
            for record_id, state, fields in rows
        ]

    def kept(self, account: str, key: str, since: float) -> KeptAnswer | None:
        """Return the answer of a key that is not older than this, None where it has none."""
        row = self._connection.execute(
            "SELECT fingerprint, status, body, answered_at FROM keys WHERE account = ? AND key = ? AND answered_at > ?",
            (account, key, since),
        ).fetchone()
        if row is None:
            return None
        return KeptAnswer(fingerprint=row[0], status=row[1], body=json.loads(row[2]), answered_at=row[3])

    def keep(self, account: str, key: str, answer: KeptAnswer) -> None:
        """Store the answer of a key, in place of one that was kept long enough."""
        self._connection.execute(
            "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?)",
            (account, key, answer.fingerprint, answer.status, json.dumps(answer.body), answer.answered_at),
        )

    def add_hook(
        self, account: str, event: str, reference: str, body: JsonObject, due_at: float, *, state: str = "due"
    ) -> None:
        """Store a webhook to send at a time; one that is ``lost`` is not sent by itself."""
        self._connection.execute(
            "INSERT INTO hooks (account, event, reference, body, due_at, state) VALUES (?, ?, ?, ?, ?, ?)",
            (account, event, reference, json.dumps(body), due_at, state),
        )

    def resend_hooks(self, now: float) -> int:
        """Let every webhook that was lost, or not taken in the end, be sent again, and return how many these are."""
        return self._connection.execute(
            "UPDATE hooks SET state = 'due', sends = 0, due_at = ? WHERE state IN ('lost', 'given_up')", (now,)
        ).rowcount

    def due_hooks(self, now: float, limit: int) -> list[Hook]:
        """Return webhooks whose time has come, the oldest first."""
        rows = self._connection.execute(
            "SELECT id, account, event, body, sends FROM hooks WHERE state = 'due' AND due_at <= ?"
            " ORDER BY due_at, id LIMIT ?",
            (now, limit),
        )
        return [
            Hook(id=hook_id, account=account, event=event, body=json.loads(body), sends=sends)
            for hook_id, account, event, body, sends in rows
        ]

    def update_hook(self, hook_id: int, state: str, sends: int, due_at: float) -> None:
        """Store what became of a webhook."""
        self._connection.execute(
            "UPDATE hooks SET state = ?, sends = ?, due_at = ? WHERE id = ?", (state, sends, due_at, hook_id)
        )

    def hooks(self) -> list[JsonObject]:
        """Return every webhook with what became of it, in the order in which they arose."""
        rows = self._connection.execute(
            "SELECT id, account, event, reference, state, sends, body FROM hooks ORDER BY id"
        )
        names = ("id", "account", "event", "reference", "state", "sends")
        return [{**dict(zip(names, row, strict=False)), "body": json.loads(row[-1])} for row in rows]

    def schedule(self, kind: str, subject: str, due_at: float, **details: object) -> None:
        """Let something happen at a time."""
        self._connection.execute(
            "INSERT INTO happenings (kind, subject, details, due_at) VALUES (?, ?, ?, ?)",
            (kind, subject, json.dumps(details), due_at),
        )

    def due_happenings(self, now: float, limit: int) -> list[Happening]:
        """Return what is due, the oldest first."""
        rows = self._connection.execute(
            "SELECT id, kind, subject, details FROM happenings WHERE due_at <= ? ORDER BY due_at, id LIMIT ?",
            (now, limit),
        )
        return [Happening(id=row[0], kind=row[1], subject=row[2], details=json.loads(row[3])) for row in rows]

    def has_happened(self, happening_id: int) -> bool:
        """Take a happening off the list; False where another has done so."""
        return self._connection.execute("DELETE FROM happenings WHERE id = ?", (happening_id,)).rowcount == 1

    def offset_s(self) -> float:
        """Return how far its clock is ahead of the real one."""
        row = self._connection.execute("SELECT offset_s FROM clock").fetchone()
        return 0.0 if row is None else float(row[0])

    def set_offset_s(self, offset_s: float) -> None:
        """Set how far its clock is ahead of the real one."""
        self._connection.execute("INSERT OR REPLACE INTO clock VALUES (1, ?)", (offset_s,))

    def add_line(self, account: str, reference: str, line: JsonObject, *, is_principal: bool) -> None:
        """Write a line into the open batch of an account."""
        self._connection.execute(
            "INSERT INTO lines (account, batch, reference, is_principal, line) VALUES (?, ?, ?, ?, ?)",
            (account, self.open_batch(account), reference, is_principal, json.dumps(line)),
        )

    def lines(self, account: str, batch: int) -> list[tuple[str, bool, JsonObject]]:
        """Return the lines of a batch: each reference, whether it is a movement by itself, and the line."""
        rows = self._connection.execute(
            "SELECT reference, is_principal, line FROM lines WHERE account = ? AND batch = ? ORDER BY seq",
            (account, batch),
        )
        return [(reference, bool(is_principal), json.loads(line)) for reference, is_principal, line in rows]

    def open_batch(self, account: str) -> int:
        """Return the number of the batch that lines are written into."""
        found = self._connection.execute("SELECT max(batch) FROM batches WHERE account = ?", (account,)).fetchone()[0]
        return 1 if found is None else int(found) + 1

    def close_batch(self, account: str, batch: int, now: float) -> None:
        """Close a batch."""
        self._connection.execute("INSERT INTO batches VALUES (?, ?, ?)", (account, batch, now))

    def closed_at(self, account: str, batch: int) -> float | None:
        """Return when a batch was closed, None for one that is open."""
        row = self._connection.execute(
            "SELECT closed_at FROM batches WHERE account = ? AND batch = ?", (account, batch)
        ).fetchone()
        return None if row is None else float(row[0])

    def put_feed(self, account: str, name: str, body: str) -> None:
        """Store a report, in place of the one of its name."""
        self._connection.execute("INSERT OR REPLACE INTO feeds VALUES (?, ?, ?)", (account, name, body))

    def feeds(self, account: str) -> dict[str, str]:
        """Return the reports of an account by name."""
        return dict(
            self._connection.execute("SELECT name, body FROM feeds WHERE account = ? ORDER BY name", (account,))
        )

    def add_divergence(self, account: str, batch: int, kind: str, reference: str) -> int:
        """Store a divergence that is planted into a batch, and return its number."""
        made = self._connection.execute(
            "INSERT INTO divergences (account, batch, kind, reference) VALUES (?, ?, ?, ?)",
            (account, batch, kind, reference),
        ).lastrowid
        assert made is not None
        return made

    def divergences(self, account: str, batch: int | None = None) -> list[JsonObject]:
        """Return what is planted in an account's reports, or in one batch of it."""
        rows = self._connection.execute(
            "SELECT id, account, batch, kind, reference FROM divergences"
            " WHERE account = ? AND (? IS NULL OR batch = ?) ORDER BY id",
            (account, batch, batch),
        )
        return [dict(zip(("id", "account", "batch", "kind", "reference"), row, strict=True)) for row in rows]
