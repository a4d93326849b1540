"""Who a part runs as, and that it dies with its supervisor. All of it is done by util-linux's ``setpriv``."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from functools import cache
from pathlib import Path

from stack.errors import PermissionMissing

UNPRIVILEGED_USER = "nobody"
CAPABILITIES = {"dac_read_search": 2, "dac_override": 1}
"""Either lets a process pass folders that only root may enter; the narrower first. Numbers as in linux/capability.h."""


@cache
def setpriv() -> str | None:
    """Return where setpriv is; None where this system has none."""
    return shutil.which("setpriv", path=os.environ.get("PATH", "") + ":/usr/bin:/bin")


def bound(command: tuple[str, ...], on_death: signal.Signals) -> tuple[str, ...]:
    """Return the command such that the kernel signals the process when its supervisor is gone.

    Where there is no setpriv the command stays as it is: what a killed supervisor leaves behind then lives until the
    next ``up`` or ``down`` sweeps it.
    """
    return (setpriv() or "", "--pdeathsig", on_death.name.removeprefix("SIG"), *command) if setpriv() else command


def is_root() -> bool:
    """Return whether this process runs as root."""
    return os.geteuid() == 0


def unprivileged(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command as it must run: PostgreSQL refuses root, so root starts it as ``nobody``.

    The checkout and the data folder may lie where only root can go, so one capability to pass folders goes with it.
    Raises PermissionMissing where that cannot be done.
    """
    if not is_root():
        return command
    if setpriv() is None:
        raise PermissionMissing(
            "PostgreSQL does not run as root and setpriv is missing; install util-linux, or run as another user."
        )
    user = pwd.getpwnam(UNPRIVILEGED_USER)
    names = [name for name, number in CAPABILITIES.items() if _bounding_set() >> number & 1]
    capabilities = (f"--inh-caps=+{names[0]}", f"--ambient-caps=+{names[0]}") if names else ()
    identity = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *capabilities)
    return (setpriv() or "", *identity, *command)


def give(path: Path) -> None:
    """Give a folder to the user that :func:`unprivileged` runs as."""
    if is_root():
        user = pwd.getpwnam(UNPRIVILEGED_USER)
        os.chown(path, user.pw_uid, user.pw_gid)


def _bounding_set() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapBnd":
            return int(value, 16)
    return 0
