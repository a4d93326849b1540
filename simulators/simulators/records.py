"""The state of a simulator in one SQLite file that outlives the process: records, answered requests, faults.

A commit has reached the operating system when it returns, so SIGKILL loses nothing that was answered. Only ``summary``
may be called from another thread than the one that opened the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Self

JsonObject = dict[str, object]

BUSY_TIMEOUT_S = 5.0
"""The sqlite3 shell may hold a lock on the file; wait for it rather than fail a call."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    reference TEXT NOT NULL,
    state TEXT NOT NULL,
    fields TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS records_counted ON records (kind, state);
CREATE TABLE IF NOT EXISTS requests (
    key TEXT PRIMARY KEY,
    operation TEXT NOT NULL,
    reference TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    status INTEGER NOT NULL,
    body TEXT NOT NULL,
    answered_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_counted ON requests (operation, status);
CREATE TABLE IF NOT EXISTS faults (id INTEGER PRIMARY KEY AUTOINCREMENT, rule TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fault_hits (
    fault_id INTEGER NOT NULL REFERENCES faults ON DELETE CASCADE,
    reference TEXT NOT NULL,
    hits INTEGER NOT NULL,
    PRIMARY KEY (fault_id, reference)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Something that exists at the provider: an authorization, a capture, a shipment.

    ``reference`` is the caller's name for it; ``fields`` depend on the kind and hold JSON values only.
    """

    kind: str
    id: str
    reference: str
    state: str
    fields: JsonObject = field(default_factory=dict)

    def amount(self, name: str) -> int:
        """Return one of the record's amounts, in minor units."""
        value = self.fields[name]
        if not isinstance(value, int):
            raise TypeError(f"{name} of {self.id} is {value!r}, not an amount. Check the code that wrote the record.")
        return value

    def text(self, name: str) -> str:
        """Return one of the record's fields as text, empty where it is missing."""
        return str(self.fields.get(name, ""))

    def become(self, state: str, **fields: object) -> Record:
        """Return the record in its next state, with some fields changed."""
        return replace(self, state=state, fields={**self.fields, **fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredRequest:
    """The permanent answer of an idempotency key."""

    operation: str
    reference: str
    fingerprint: bytes
    status: int
    body: Mapping[str, object]


class Records:
    """The simulator's state. Every change happens inside ``transaction``. ``TABLES`` are those of the file."""

    TABLES: ClassVar[str] = SCHEMA

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """Open the file, created with its folder where missing, and close it at the end."""
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # NORMAL hands each commit to the operating system but waits for the disk only at a checkpoint: the death of
            # the process loses nothing, and a commit costs tens of microseconds. A power cut may lose the last commits.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.executescript(cls.TABLES)
            yield cls(path, connection)
        finally:
            connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all changes made inside, or none of them."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def check(self) -> None:
        """Raise sqlite3.Error where the file cannot be written."""
        with self.transaction():
            self._connection.execute("UPDATE faults SET rule = rule WHERE id < 0")

    def find(self, kind: str, record_id: str) -> Record | None:
        row = self._connection.execute(
            "SELECT reference, state, fields FROM records WHERE id = ? AND kind = ?", (record_id, kind)
        ).fetchone()
        if row is None:
            return None
        return Record(kind=kind, id=record_id, reference=row[0], state=row[1], fields=json.loads(row[2]))

    def of_state(self, kind: str, state: str, limit: int) -> list[Record]:
        """Return up to ``limit`` records of a kind in a state, in the order of their creation."""
        rows = self._connection.execute(
            "SELECT id, reference, fields FROM records WHERE kind = ? AND state = ? ORDER BY seq LIMIT ?",
            (kind, state, limit),
        )
        return [
            Record(kind=kind, id=record_id, reference=reference, state=state, fields=json.loads(fields))
            for record_id, reference, fields in rows
        ]

    def add(self, record: Record) -> None:
        self._connection.execute(
            "INSERT INTO records (kind, id, reference, state, fields) VALUES (?, ?, ?, ?, ?)",
            (record.kind, record.id, record.reference, record.state, json.dumps(record.fields)),
        )

    def update(self, record: Record) -> None:
        self._connection.execute(
            "UPDATE records SET state = ?, fields = ? WHERE id = ?",
            (record.state, json.dumps(record.fields), record.id),
        )

    def answered(self, key: str) -> AnsweredRequest | None:
        """Return the answer of an idempotency key, or None where it has none."""
        row = self._connection.execute(
            "SELECT operation, reference, fingerprint, status, body FROM requests WHERE key = ?", (key,)
        ).fetchone()
        if row is None:
            return None
        return AnsweredRequest(
            operation=row[0], reference=row[1], fingerprint=row[2], status=row[3], body=json.loads(row[4])
        )

    def answer(self, key: str, request: AnsweredRequest) -> None:
        """Store the one answer of an idempotency key."""
        self._connection.execute(
            "INSERT INTO requests (key, operation, reference, fingerprint, status, body) VALUES (?, ?, ?, ?, ?, ?)",
            (
                key,
                request.operation,
                request.reference,
                request.fingerprint,
                request.status,
                json.dumps(dict(request.body)),
            ),
        )

    def page(self, kind: str | None, after: int, limit: int) -> list[JsonObject]:
        """Return up to ``limit`` records after a sequence number, in the order of their creation."""
        rows = self._connection.execute(
            "SELECT seq, kind, id, reference, state, fields FROM records"
            " WHERE seq > ? AND (? IS NULL OR kind = ?) ORDER BY seq LIMIT ?",
            (after, kind, kind, limit),
        )
        return [
            {"seq": seq, "kind": of_kind, "id": record_id, "reference": reference, "state": state, **json.loads(fields)}
            for seq, of_kind, record_id, reference, state, fields in rows
        ]

    def summary(self) -> JsonObject:
        """Count records by kind and state and answers by operation and status, and sum every amount.

        It reads everything (1.5 s for a year of orders), so it has its own connection and may run on any thread.
        """
        with closing(sqlite3.connect(f"{self._path.resolve().as_uri()}?mode=ro", uri=True)) as reader:
            reader.execute("BEGIN")  # One snapshot for all three.
            records: dict[str, dict[str, int]] = {}
            for kind, state, count in reader.execute("SELECT kind, state, count(*) FROM records GROUP BY 1, 2"):
                records.setdefault(kind, {})[state] = count
            requests: dict[str, dict[str, int]] = {}
            for operation, status, count in reader.execute(
                "SELECT operation, status, count(*) FROM requests GROUP BY 1, 2"
            ):
                requests.setdefault(operation, {})[str(status)] = count
            amounts = [
                {"kind": kind, "state": state, "currency": currency, "amount": name, "sum_minor": total}
                for kind, state, currency, name, total in reader.execute(
                    "SELECT kind, state, fields ->> 'currency', key, sum(value) FROM records, json_each(fields)"
                    " WHERE key LIKE '%!_minor' ESCAPE '!' GROUP BY 1, 2, 3, 4"
                )
            ]
        return {"records": records, "requests": requests, "amounts": amounts}

    def add_fault(self, rule: str) -> int:
        """Store a fault (JSON) and return its id."""
        fault_id = self._connection.execute("INSERT INTO faults (rule) VALUES (?)", (rule,)).lastrowid
        assert fault_id is not None
        return fault_id

    def faults(self) -> list[tuple[int, str]]:
        """Return every fault as (id, JSON), the oldest first."""
        return self._connection.execute("SELECT id, rule FROM faults ORDER BY id").fetchall()

    def remove_fault(self, fault_id: int) -> None:
        self._connection.execute("DELETE FROM faults WHERE id = ?", (fault_id,))

    def clear_faults(self) -> None:
        self._connection.execute("DELETE FROM faults")

    def fault_hits(self, fault_id: int, reference: str) -> int:
        row = self._connection.execute(
            "SELECT hits FROM fault_hits WHERE fault_id = ? AND reference = ?", (fault_id, reference)
        ).fetchone()
        return 0 if row is None else int(row[0])

    def hit_fault(self, fault_id: int, reference: str) -> None:
        self._connection.execute(
            "INSERT INTO fault_hits VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET hits = hits + 1", (fault_id, reference)
        )
