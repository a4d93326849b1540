"""Slow lookups of names: the variables of a process that looks names up as slowly as a file says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

CALLERS = ("payment", "shipping")
"""The services that look up a provider's name."""
FOLDER = Path(__file__).with_name("lookups")
"""What Python runs at the start of a process that has this folder on its path."""


def lookup_file(home: Path) -> Path:
    """Return the file with the seconds that each lookup takes. Without it there is no delay."""
    return home / "lookups"


def lookup_environment(home: Path, *python_path: str) -> Mapping[str, str]:
    """Return the variables of a process whose lookups can be slow, and whose code is found on this path."""
    path = os.pathsep.join((*python_path, str(FOLDER)))
    return {"PYTHONPATH": path, "BARAZA_CHAOS_LOOKUPS": str(lookup_file(home))}
