"""The peer: what a good engineer writes by hand instead. One function for a transfer, called by pgbench.

It keeps what a careful table design keeps (a unique reference, entries with the balance after them, a floor, locks in
one order), and commits each transfer by itself with fsync on. Statements are prepared.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psycopg

from baraza.bench.books.cases import AMOUNT_MINOR, HOT_FUNDS_MINOR, MEMBER_FUNDS_MINOR, MEMBERS
from baraza.terminal import Refusal
from stack.postgres import binary

CLIENTS: Final = 16
THREADS: Final = 2
HOT_SOURCE, HOT_TARGET = MEMBERS + 1, MEMBERS + 2
RATE: Final = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
FAILED: Final = re.compile(r"^number of failed transactions: ([0-9]+)", re.MULTILINE)

SCHEMA: Final = f"""
    CREATE SCHEMA peer;
    CREATE TABLE peer.accounts (
        id bigint PRIMARY KEY, balance bigint NOT NULL, floor_minor bigint, version bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50);
    CREATE TABLE peer.transfers (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, reference uuid NOT NULL UNIQUE,
        booked_at timestamptz NOT NULL
    );
    CREATE TABLE peer.entries (
        transfer_id bigint NOT NULL, ordinal smallint NOT NULL, account_id bigint NOT NULL,
        amount_minor bigint NOT NULL, balance_after bigint NOT NULL, booked_at timestamptz NOT NULL,
        PRIMARY KEY (transfer_id, ordinal)
    );
    CREATE INDEX entries_by_account ON peer.entries (account_id, booked_at, transfer_id);
    INSERT INTO peer.accounts SELECT number, {MEMBER_FUNDS_MINOR}, 0 FROM generate_series(1, {MEMBERS}) AS number;
    INSERT INTO peer.accounts VALUES ({HOT_SOURCE}, {HOT_FUNDS_MINOR}, 0), ({HOT_TARGET}, {HOT_FUNDS_MINOR}, 0);
    CREATE FUNCTION peer.transfer(reference uuid, source bigint, target bigint, amount bigint) RETURNS bigint
    LANGUAGE plpgsql AS $$
    DECLARE
        new_id bigint;
        source_after bigint;
        target_after bigint;
    BEGIN
        INSERT INTO peer.transfers (reference, booked_at) VALUES (reference, now()) RETURNING id INTO new_id;
        PERFORM FROM peer.accounts WHERE id IN (source, target) ORDER BY id FOR NO KEY UPDATE;
        UPDATE peer.accounts SET balance = balance - amount, version = version + 1
        WHERE id = source AND (floor_minor IS NULL OR balance - amount >= floor_minor)
        RETURNING balance INTO source_after;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'insufficient funds' USING ERRCODE = 'P0001';
        END IF;
        UPDATE peer.accounts SET balance = balance + amount, version = version + 1
        WHERE id = target RETURNING balance INTO STRICT target_after;
        INSERT INTO peer.entries (transfer_id, ordinal, account_id, amount_minor, balance_after, booked_at)
        VALUES (new_id, 0, source, amount, source_after, now()), (new_id, 1, target, -amount, target_after, now());
        RETURN new_id;
    END $$;
"""  # noqa: S608 - numbers of our own
CALLS: Final[Mapping[str, tuple[str, str]]] = {
    "uniform": (":payer", ":payee"),
    "hot_source": (str(HOT_SOURCE), ":payer"),
    "hot_destination": (":payer", str(HOT_TARGET)),
    "hot_both": (str(HOT_SOURCE), str(HOT_TARGET)),
}
"""Source and target of each case."""


def script(case: str) -> str:
    """Return pgbench's script for a case."""
    source, target = CALLS[case]
    return "\n".join(
        [
            rf"\set payer random(1, {MEMBERS})",
            # Never the payer itself, which a step of MEMBERS - 1 would be.
            rf"\set step random(1, {MEMBERS - 2})",
            rf"\set payee mod(:payer + :step, {MEMBERS}) + 1",
            f"SELECT peer.transfer(gen_random_uuid(), {source}, {target}, {AMOUNT_MINOR});",
            "",
        ]
    )


def create(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Create the peer's tables and its function."""
    connection.execute(SCHEMA)


def transfers_per_s(case: str, login: Mapping[str, str], seconds: float, folder: Path) -> float:
    """Run pgbench for a case, and return its transactions a second. Raises Refusal where it fails."""
    file = folder / f"{case}.sql"
    file.write_text(script(case))
    command = (
        str(binary("pgbench")), "--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", f"--jobs={THREADS}",
        f"--time={max(1, round(seconds))}", f"--file={file}",
    )  # fmt: skip
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    environment = {"PATH": os.defpath, "LC_ALL": "C", **{names[name]: value for name, value in login.items()}}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return rate_of(run.stdout) if run.returncode == 0 else _refuse(run.stderr)


def rate_of(report: str) -> float:
    """Return the transactions a second of pgbench's report. Raises Refusal where it has none, or some have failed."""
    rate, failed = RATE.search(report), FAILED.search(report)
    if rate is None or (failed is not None and failed[1] != "0"):
        return _refuse(report)
    return float(rate[1])


def _refuse(text: str) -> float:
    raise Refusal(f"pgbench failed: {' '.join(text.split())[-500:]}. Free the machine, and run it again.")
