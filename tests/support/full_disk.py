"""Run in a mount namespace of its own: a stack of Redis alone on a small file system, which is then filled.

Prints one JSON object: by command, its exit status and what it wrote to stderr.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from stack import from_environment, up

SIZE = "64m"
ORDER = "01JCZ3K8T0ABCDEFGHJKMNPQRS"
COMMANDS = {"status": ("status",), "orders show": ("orders", "show", ORDER), "up": ("up", "--replicas", "payment=0")}
CHUNK = b"\0" * (1 << 20)


def main(home: Path) -> None:
    subprocess.run(("mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(home)), check=True)
    stack = up(from_environment(home=home / "stack", only=("redis",)))
    try:
        found = {"before": _ended(stack.home, "status")}
        fill(home / "filler")
        found |= {name: _ended(stack.home, *arguments) for name, arguments in COMMANDS.items()}
    finally:
        (home / "filler").unlink(missing_ok=True)
        stack.down()
    sys.stdout.write(json.dumps(found))


def fill(file: Path) -> None:
    """Write until nothing more can be written."""
    with file.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(CHUNK)
        except OSError:
            return


def _ended(home: Path, *arguments: str) -> tuple[int, str]:
    command = (sys.executable, "-P", "-m", "baraza", *arguments, "--home", str(home))
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


if __name__ == "__main__":
    main(Path(sys.argv[1]))
