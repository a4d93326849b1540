"""Files of feeds and their lines. A file that comes again replaces its lines, and the ones before are kept."""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
from sqlalchemy import Connection, text

from reconciliation.store import schema

COPIED = [column.name for column in schema.feed_lines.columns if column.name != "superseded_at"]
COPY = f"COPY feed_lines ({', '.join(COPIED)}) FROM STDIN WITH (FORMAT csv)"
LATEST = text("""
    SELECT version, digest, refusal FROM feed_files WHERE account = :account AND name = :name
    ORDER BY version DESC LIMIT 1
""")
ADD = text("""
    INSERT INTO feed_files (account, name, version, digest, byte_count, line_count, refusal, loaded_at)
    VALUES (:account, :name, :version, :digest, :byte_count, :line_count, :refusal, :now)
    RETURNING id
""")
HAS_OTHERS = text("SELECT EXISTS (SELECT FROM feed_files WHERE account = :account AND id <> :id AND line_count > 0)")
SUPERSEDE_FILE = text("""
    UPDATE feed_lines SET superseded_at = :now
    WHERE superseded_at IS NULL AND file_id IN (
        SELECT id FROM feed_files WHERE account = :account AND name = :name AND version < :version)
""")
SUPERSEDE_LINES = text("""
    UPDATE feed_lines AS earlier SET superseded_at = :now
    FROM feed_lines AS later
    WHERE later.file_id = :id AND earlier.account = later.account AND earlier.line_id = later.line_id
      AND earlier.superseded_at IS NULL
      AND (earlier.file_id <> later.file_id OR earlier.number > later.number)
""")
LIST = text("""
    SELECT id, account, name, version, digest, byte_count, line_count, refusal, loaded_at FROM feed_files
    WHERE id < :before AND (CAST(:account AS text) IS NULL OR account = :account) ORDER BY id DESC LIMIT :count
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file as it was delivered; ``digest`` is the SHA-256 of its bytes."""

    account: str
    name: str
    digest: str
    byte_count: int


def next_version(file: File, tx: Connection) -> int | None:
    """Return the version that a delivered file has; None where the last one under its name has the same bytes."""
    latest = tx.execute(LATEST, {"account": file.account, "name": file.name}).one_or_none()
    if latest is None:
        return 1
    return None if latest.digest == file.digest else int(latest.version) + 1


def refuse(file: File, version: int, reason: str, tx: Connection, *, now: datetime) -> None:
    """Record that a file cannot be read. Its lines of before stay current."""
    _add(file, version, 0, reason, tx, now)


def load(file: File, version: int, lines: pa.Table, tx: Connection, *, now: datetime) -> None:
    """Add the lines of a file; they replace those of its earlier versions, and the same lines of other files."""
    file_id = _add(file, version, len(lines), None, tx, now)
    values = {"account": file.account, "name": file.name, "version": version, "id": file_id, "now": now}
    if version > 1:
        tx.execute(SUPERSEDE_FILE, values)
    _copy(lines, {"file_id": file_id, "account": file.account, "loaded_at": now}, tx)
    is_unique = lines["line_id"].combine_chunks().dictionary_encode().dictionary
    if len(is_unique) < len(lines) or tx.execute(HAS_OTHERS, values).scalar_one():
        tx.execute(SUPERSEDE_LINES, values)


def _add(file: File, version: int, line_count: int, refusal: str | None, tx: Connection, now: datetime) -> int:
    values = {
        "account": file.account, "name": file.name, "digest": file.digest, "byte_count": file.byte_count,
        "version": version, "line_count": line_count, "refusal": refusal, "now": now,
    }  # fmt: skip
    found: int = tx.execute(ADD, values).scalar_one()
    return found


def _copy(lines: pa.Table, same: dict[str, Any], tx: Connection) -> None:
    """Send lines in PostgreSQL's bulk format: row by row would take minutes for a million."""
    columns = [pa.array([same[name]] * len(lines)) if name in same else lines[name] for name in COPIED]
    table = pa.table(columns, names=COPIED)
    driver: Any = tx.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(COPY) as copy:
        for batch in table.to_batches(max_chunksize=50_000):
            sink = io.BytesIO()
            pacsv.write_csv(batch, sink, pacsv.WriteOptions(include_header=False))
            copy.write(sink.getvalue())
