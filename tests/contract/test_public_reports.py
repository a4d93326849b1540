"""Every public report of the page on reliability names a test, and the test exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
ROW = re.compile(r"^\| .+ \| .+ \| `(test_\w+)` \|$", re.MULTILINE)
DECLARED = re.compile(r"^def (test_\w+)\(", re.MULTILINE)


def test_every_public_report_names_a_test_that_exists() -> None:
    _, _, section = PAGE.read_text().partition("\n## Public reports\n")
    named = ROW.findall(section.partition("\n## ")[0])
    declared = {name for path in (ROOT / "tests").rglob("test_*.py") for name in DECLARED.findall(path.read_text())}
    assert len(named) > 20
    assert sorted(set(named) - declared) == []
