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
"""Either lets a process traverse folders of root; the narrower one first. Numbers as in linux/capability.h."""


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
    """Return the command wrapped in programs that set these properties.

    ``on_death``: the kernel sends this signal when the parent process is gone. Without setpriv, the processes of a
    killed supervisor live until the next ``up`` or ``down`` ends them.

    ``unprivileged``: PostgreSQL refuses root, so root starts it as ``nobody``. The checkout and the data folder may be
    in folders of root, so it also gets a capability to traverse them. Raises PermissionMissing without setpriv.

    ``niceness``: added by ``nice`` of coreutils; without it the process has the normal priority.
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
    # PostgreSQL finds its programs with access(2), which ignores capabilities without that bit.
    bits = "--securebits=+no_setuid_fixup"
    capabilities = (f"--inh-caps=+{names[0]}", f"--ambient-caps=+{names[0]}", bits) if names else ()
    return (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *capabilities)


def require_name() -> None:
    """Raise PermissionMissing for a user without a name, as in some containers: PostgreSQL needs the name."""
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
    """Return the path of a program, None where this system does not have it."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/bin:/bin")


def _bounding_set() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapBnd":
            return int(value, 16)
    return 0
