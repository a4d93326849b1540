"""What a backup contains, from what pg_restore lists of it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from stack import InvalidSettings
from stack.backups import Archive, archive_of

LISTED = """;
; Archive created at 2026-11-21 09:30:00 UTC
;     dbname: inventory
;     TOC Entries: 58
;     Format: CUSTOM
"""
VERSIONS = "SET x = 1;\nCOPY public.alembic_version (version_num) FROM stdin;\n0003\n\\.\n\n"


def test_an_archive_has_a_database_a_revision_and_a_time() -> None:
    assert archive_of(Path("dump"), LISTED, VERSIONS) == Archive(
        database="inventory", revision="0003", taken_at=datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("listed", "versions"),
    [
        ("", ""),
        (LISTED, ""),
        (LISTED, VERSIONS.replace("0003\n", "")),
        (LISTED.replace("dbname", "name"), VERSIONS),
        (LISTED.replace("Archive created", "Created"), VERSIONS),
    ],
)
def test_an_archive_that_lacks_one_of_them_is_refused(listed: str, versions: str) -> None:
    with pytest.raises(InvalidSettings, match="give a file that 'baraza backup' wrote"):
        archive_of(Path("dump"), listed, versions)
