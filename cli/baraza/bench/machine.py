"""The machine that a figure was measured on: without it a figure cannot be compared."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import psutil

LIBRARIES = ("confluent-kafka", "fastavro", "faust-streaming", "psycopg", "sqlalchemy", "uvicorn", "uvloop")
GIBIBYTE = 1 << 30


def machine() -> dict[str, str | int | float]:
    """Return processors, memory and system."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "cores_usable": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / GIBIBYTE, 1),
        "system": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Baraza, Python and the libraries that do the work."""
    return {
        "baraza": _commit(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty")
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return metadata.version("baraza-cli")
