"""A disk that is full while a stack runs: whatever fails is said to fail for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support import full_disk

TIMEOUT_S = 120


def test_every_command_says_that_the_disk_is_full(tmp_path: Path) -> None:
    namespace = ("unshare", "--user", "--map-root-user", "--mount")
    command = (*namespace, sys.executable, "-P", full_disk.__file__, str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    full = f"The disk of {tmp_path / 'stack'} is full (0 MB left)"
    assert found["before"] == [0, ""]
    status, shown = found["status"]
    assert (status, full in shown) == (1, True), shown
    status, shown = found["orders show"]
    assert status == 1
    assert shown.startswith("baraza: issuer at ")
    assert full in shown, shown
    status, shown = found["up"]
    assert (status, full in shown) == (2, False), "wrong usage has nothing to do with the disk"
