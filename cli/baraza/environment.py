"""What of the caller's environment never reaches the clients in this process.

libpq, Python and Java each obey dozens of variables. One that is meant for another program must not change a command.
"""

from __future__ import annotations

from collections.abc import MutableMapping

FOREIGN_PREFIXES = ("PG", "PSYCOPG_", "PYTHON", "JAVA_", "JDK_", "_JAVA_", "KAFKA_", "LIBRDKAFKA_")
FOREIGN = frozenset(
    {"CLASSPATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "SSLKEYLOGFILE", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}
)
"""git sets its own for a hook; they would lead the benchmark's git into the caller's repository."""

SIZES = {"COLUMNS": (20, 1_000), "LINES": (2, 1_000)}
"""A terminal's sizes. A width of many digits takes all the memory there is."""
DIGITS_MAX = 4


def remove_foreign(environ: MutableMapping[str, str]) -> None:
    """Remove the variables by which a caller would change our clients of PostgreSQL and Kafka, and our processes.

    Also the size of a terminal that there cannot be.
    """
    for name, (least, most) in SIZES.items():
        text = environ.get(name, "")
        if not (text.isascii() and text.isdecimal() and len(text) <= DIGITS_MAX and least <= int(text) <= most):
            environ.pop(name, None)
    for name in list(environ):
        if name.startswith(FOREIGN_PREFIXES) or name in FOREIGN:
            del environ[name]
