"""The state of a provider of mobile money: besides records, its entries, phones, tokens, callbacks and damage.

Every change happens inside ``transaction``. An entry is one side of a transaction of money; the entries of a receipt
add up to zero, and each has the balance of its account after it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from simulators.gateway_records import GATEWAY_SCHEMA, GatewayRecords
from simulators.records import SCHEMA, JsonObject

MOBILE_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, receipt TEXT NOT NULL, kind TEXT NOT NULL, account TEXT NOT NULL,
    amount_minor INTEGER NOT NULL, balance_minor INTEGER NOT NULL, at REAL NOT NULL, details TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entries_of_account ON entries (account, at);
CREATE INDEX IF NOT EXISTS entries_of_receipt ON entries (receipt);
CREATE TABLE IF NOT EXISTS balances (account TEXT PRIMARY KEY, balance_minor INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS receipts (seq INTEGER PRIMARY KEY AUTOINCREMENT, given_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS callbacks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, operation TEXT NOT NULL, about TEXT NOT NULL, method TEXT NOT NULL,
    url TEXT NOT NULL, body TEXT NOT NULL, due_at REAL NOT NULL, state TEXT NOT NULL, status INTEGER, following TEXT
);
CREATE INDEX IF NOT EXISTS callbacks_due ON callbacks (state, due_at);
CREATE INDEX IF NOT EXISTS callbacks_about ON callbacks (about);
CREATE TABLE IF NOT EXISTS tokens (
    token TEXT PRIMARY KEY, short_code TEXT NOT NULL, product TEXT NOT NULL, expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS damage (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, account TEXT NOT NULL, seq INTEGER NOT NULL,
    receipt TEXT NOT NULL, delta_minor INTEGER NOT NULL, at REAL NOT NULL
);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One side of a transaction of money. ``details`` are what a statement shows besides."""

    seq: int
    receipt: str
    kind: str
    account: str
    amount_minor: int
    balance_minor: int
    at: float
    details: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A row of a statement that is wrong on purpose. ``delta_minor`` is by how much the row is off."""

    id: int
    kind: str
    account: str
    seq: int
    receipt: str
    delta_minor: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """A callback that is due. ``following`` is the happening that its answer leads to, empty for none."""

    id: int
    operation: str
    about: str
    method: str
    url: str
    body: str
    following: str


class MobileRecords(GatewayRecords):
    """The state of a provider of mobile money."""

    TABLES: ClassVar[str] = SCHEMA + GATEWAY_SCHEMA + MOBILE_SCHEMA

    def empty(self) -> None:
        """Delete everything but the certificate, which callers may have."""
        for table in ("records", "requests", "faults", "fault_hits", "happenings", "entries", "balances", "callbacks",
                      "tokens", "damage"):  # fmt: skip
            self._connection.execute(f"DELETE FROM {table}")  # noqa: S608
        self._connection.execute("DELETE FROM kept WHERE name <> 'certificate'")

    def next_receipt(self, now: float) -> int:
        """Return the number of a new receipt."""
        number = self._connection.execute("INSERT INTO receipts (given_at) VALUES (?)", (now,)).lastrowid
        assert number is not None
        return number

    def balance(self, account: str) -> int:
        """Return the balance of an account, in minor units."""
        row = self._connection.execute("SELECT balance_minor FROM balances WHERE account = ?", (account,)).fetchone()
        return 0 if row is None else int(row[0])

    def has_account(self, account: str) -> bool:
        """Return whether an account was ever entered into."""
        found = self._connection.execute("SELECT 1 FROM balances WHERE account = ?", (account,)).fetchone()
        return found is not None

    def enter(
        self, receipt: str, kind: str, at: float, amounts: Mapping[str, int], details: Mapping[str, JsonObject]
    ) -> None:
        """Enter one transaction of money; its amounts, by account, add up to zero. Raises ValueError.

        No entry is older than the one before it, so that the balances of a statement follow its times.
        """
        if sum(amounts.values()) != 0:
            raise ValueError(f"The entries of {receipt} add up to {sum(amounts.values())}, not to 0: {dict(amounts)}.")
        last = self._connection.execute("SELECT at FROM entries ORDER BY seq DESC LIMIT 1").fetchone()
        at = at if last is None else max(at, float(last[0]))
        for account, amount_minor in amounts.items():
            after = self.balance(account) + amount_minor
            self._connection.execute("INSERT OR REPLACE INTO balances VALUES (?, ?)", (account, after))
            self._connection.execute(
                "INSERT INTO entries (receipt, kind, account, amount_minor, balance_minor, at, details)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (receipt, kind, account, amount_minor, after, at, json.dumps(details.get(account, {}))),
            )

    def entries(self, account: str, since: float, until: float) -> list[Entry]:
        """Return the entries of an account in a time, the oldest first."""
        return self._entries("account = ? AND at >= ? AND at < ? ORDER BY seq", account, since, until)

    def entries_of_kind(
        self, account: str, kind: str, since: float, until: float, *, offset: int, limit: int
    ) -> list[Entry]:  # fmt: skip
        """Return a page of the entries of an account that are of a kind, the oldest first."""
        where = "account = ? AND at >= ? AND at < ? AND kind = ? ORDER BY seq LIMIT ? OFFSET ?"
        return self._entries(where, account, since, until, kind, limit, offset)

    def entries_of(self, receipt: str) -> list[Entry]:
        """Return the entries of a receipt."""
        return self._entries("receipt = ? ORDER BY seq", receipt)

    def entries_after(self, seq: int, limit: int) -> list[Entry]:
        """Return up to ``limit`` entries after a number."""
        return self._entries("seq > ? ORDER BY seq LIMIT ?", seq, limit)

    def balance_before(self, account: str, at: float) -> int:
        """Return the balance of an account just before a time, in minor units."""
        row = self._connection.execute(
            "SELECT balance_minor FROM entries WHERE account = ? AND at < ? ORDER BY at DESC, seq DESC LIMIT 1",
            (account, at),
        ).fetchone()
        return 0 if row is None else int(row[0])

    def _entries(self, where: str, *values: object) -> list[Entry]:
        columns = "seq, receipt, kind, account, amount_minor, balance_minor, at, details"
        rows = self._connection.execute(f"SELECT {columns} FROM entries WHERE {where}", values)  # noqa: S608
        names = columns.split(", ")[:-1]
        return [Entry(**dict(zip(names, row, strict=False)), details=json.loads(row[-1])) for row in rows]

    def received_since(self, account: str, kind: str, since: float) -> int:
        """Return what an account received by one kind of transaction since a time, in minor units."""
        row = self._connection.execute(
            "SELECT coalesce(sum(amount_minor), 0) FROM entries"
            " WHERE account = ? AND at >= ? AND kind = ? AND amount_minor > 0",
            (account, since, kind),
        ).fetchone()
        return int(row[0])

    def balances(self, prefix: str = "") -> dict[str, int]:
        """Return the balances of the accounts whose names begin so."""
        return dict(
            self._connection.execute(
                "SELECT account, balance_minor FROM balances WHERE substr(account, 1, ?) = ? ORDER BY account",
                (len(prefix), prefix),
            )
        )

    def unbalanced(self) -> list[str]:
        """Return the receipts whose entries do not add up to zero, and accounts whose balance is not their sum."""
        rows = self._connection.execute(
            "SELECT receipt FROM entries GROUP BY receipt HAVING sum(amount_minor) <> 0 UNION ALL"
            " SELECT b.account FROM balances b WHERE balance_minor <>"
            " (SELECT coalesce(sum(amount_minor), 0) FROM entries e WHERE e.account = b.account)"
        )
        return [str(row[0]) for row in rows]

    def add_callback(
        self, operation: str, about: str, method: str, url: str, body: str, due_at: float, *,
        state: str = "due", following: str = "",
    ) -> None:  # fmt: skip
        """Store a callback to send at a time; one that is ``lost`` is not sent."""
        self._connection.execute(
            "INSERT INTO callbacks (operation, about, method, url, body, due_at, state, following)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (operation, about, method, url, body, due_at, state, following),
        )

    def take_callbacks(self, now: float, limit: int) -> list[Callback]:
        """Return callbacks whose time has come, the oldest first, and mark each: it is never sent by itself again."""
        rows = self._connection.execute(
            "UPDATE callbacks SET state = 'sent' WHERE id IN"
            " (SELECT id FROM callbacks WHERE state = 'due' AND due_at <= ? ORDER BY due_at, id LIMIT ?)"
            " RETURNING id, operation, about, method, url, body, following",
            (now, limit),
        ).fetchall()
        names = ("id", "operation", "about", "method", "url", "body", "following")
        return [Callback(**dict(zip(names, row, strict=True))) for row in sorted(rows)]

    def answered_callback(self, callback_id: int, status: int) -> None:
        """Store how a callback was answered: 0 without an answer. It is delivered only with a 2xx."""
        state = "delivered" if 200 <= status < 300 else "undelivered"
        self._connection.execute(
            "UPDATE callbacks SET state = ?, status = ? WHERE id = ?", (state, status, callback_id)
        )

    def resend_callbacks(self, now: float, about: str | None, states: tuple[str, ...]) -> int:
        """Let callbacks in these states be sent again, all or those about something, and return how many."""
        marks = ", ".join("?" * len(states))
        return self._connection.execute(
            f"UPDATE callbacks SET state = 'due', due_at = ? WHERE state IN ({marks}) AND (? IS NULL OR about = ?)",  # noqa: S608
            (now, *states, about, about),
        ).rowcount

    def callbacks(self, about: str | None = None) -> list[JsonObject]:
        """Return every callback with what became of it, or those about something."""
        names = ("id", "operation", "about", "method", "url", "body", "due_at", "state", "status")
        rows = self._connection.execute(
            f"SELECT {', '.join(names)} FROM callbacks WHERE ? IS NULL OR about = ? ORDER BY id",  # noqa: S608
            (about, about),
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def unsent(self, about: str) -> int:
        """Return how many callbacks about something wait to be sent or answered."""
        row = self._connection.execute(
            "SELECT count(*) FROM callbacks WHERE about = ? AND (state = 'due' OR state = 'sent' AND status IS NULL)",
            (about,),
        ).fetchone()
        return int(row[0])

    def add_token(self, token: str, short_code: str, product: str, expires_at: float, *, is_only: bool) -> None:
        """Store a token; ``is_only`` ends the ones before it."""
        if is_only:
            self._connection.execute("DELETE FROM tokens WHERE short_code = ? AND product = ?", (short_code, product))
        self._connection.execute("INSERT INTO tokens VALUES (?, ?, ?, ?)", (token, short_code, product, expires_at))

    def short_code_of(self, token: str, product: str, now: float) -> str | None:
        """Return the short code of a token that is valid, None for any other."""
        row = self._connection.execute(
            "SELECT short_code FROM tokens WHERE token = ? AND product = ? AND expires_at > ?", (token, product, now)
        ).fetchone()
        return None if row is None else str(row[0])

    def kept_under(self, name: str) -> JsonObject | None:
        """Return what is kept under a name, None for nothing."""
        row = self._connection.execute("SELECT content FROM kept WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        content: JsonObject = json.loads(row[0])
        return content

    def keep_under(self, name: str, content: JsonObject | None) -> None:
        """Keep something under a name, in place of what was there; None deletes it."""
        if content is None:
            self._connection.execute("DELETE FROM kept WHERE name = ?", (name,))
        else:
            self._connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, json.dumps(content)))

    def add_damage(self, kind: str, entry: Entry, delta_minor: int) -> int:
        """Store that the row of an entry is wrong in statements, and return its number."""
        made = self._connection.execute(
            "INSERT INTO damage (kind, account, seq, receipt, delta_minor, at) VALUES (?, ?, ?, ?, ?, ?)",
            (kind, entry.account, entry.seq, entry.receipt, delta_minor, entry.at),
        ).lastrowid
        assert made is not None
        return made

    def damage(self, account: str | None = None) -> list[Damage]:
        """Return the damage of an account's statements, or of all."""
        names = ("id", "kind", "account", "seq", "receipt", "delta_minor", "at")
        rows = self._connection.execute(
            f"SELECT {', '.join(names)} FROM damage WHERE ? IS NULL OR account = ? ORDER BY id",  # noqa: S608
            (account, account),
        )
        return [Damage(**dict(zip(names, row, strict=True))) for row in rows]

    def clear_damage(self) -> None:
        """Let every statement be right again."""
        self._connection.execute("DELETE FROM damage")
