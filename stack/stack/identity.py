"""A component's user, its priority, and its death with its supervisor: ``setpriv`` and ``nice`` see to all three."""

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


def is_root() -> bool:
    """Return whether this process runs as root."""
    return os.geteuid() == 0


def wrapped(
    command: tuple[str, ...],
    *,
    on_death: signal.Signals | None = None,
    unprivileged: bool = False,
    niceness: int = 0,
) -> tuple[str, ...]:
    """Return the command such that it runs as it must.

    ``on_death``: the kernel sends this signal when the process that started it is gone. Where there is no setpriv, what
    a killed supervisor leaves behind lives until the next ``up`` or ``down`` sweeps it.

    ``unprivileged``: PostgreSQL refuses root, so root starts it as ``nobody``. The checkout and the data folder may lie
    where only root can go, so a capability to pass folders goes with it. Raises PermissionMissing where that cannot be.

    ``niceness``: as ``nice`` of coreutils adds it; where there is none, the process is as important as any other.
    """
    if niceness and (nice := _program("nice")) is not None:
        command = (nice, "-n", str(niceness), *command)
    options = _nobody() if unprivileged and is_root() else ()
    if on_death is not None:
        options = ("--pdeathsig", on_death.name.removeprefix("SIG"), *options)
    program = _program("setpriv")
    if program is None and unprivileged and is_root():
        raise PermissionMissing(
            "PostgreSQL does not run as root and setpriv is missing; install util-linux, or run as another user."
        )
    return (program, *options, *command) if program and options else command


def _nobody() -> tuple[str, ...]:
    user = pwd.getpwnam(UNPRIVILEGED_USER)
    names = [name for name, number in CAPABILITIES.items() if _bounding_set() >> number & 1]
    # PostgreSQL looks for its programs with access(2), which ignores capabilities without that bit.
    bits = "--securebits=+no_setuid_fixup"
    capabilities = (f"--inh-caps=+{names[0]}", f"--ambient-caps=+{names[0]}", bits) if names else ()
    return (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *capabilities)


def require_name() -> None:
    """Raise PermissionMissing where the user has a number only, as in some containers: PostgreSQL asks for its name."""
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise PermissionMissing(
            f"PostgreSQL needs a user with a name; {os.geteuid()} has none in /etc/passwd. Add one, or run as another."
        ) from error


def give(path: Path) -> None:
    """Give a folder to the user that :func:`wrapped` runs as."""
    if is_root():
        user = pwd.getpwnam(UNPRIVILEGED_USER)
        os.chown(path, user.pw_uid, user.pw_gid)


@cache
def _program(name: str) -> str | None:
    """Return where a program is; None where this system has none."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/bin")


def _bounding_set() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapBnd":
            return int(value, 16)
    return 0
