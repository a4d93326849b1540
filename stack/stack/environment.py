"""The environment of the processes that we start, and the folder whose programs they run.

libpq, Python and Java each obey dozens of variables. One that is meant for another program must not change a stack.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from stack.errors import InvalidSettings, PermissionMissing

INHERITED = ("PATH", "USER", "LOGNAME", "TZ", "TMPDIR")
"""The only variables that our processes inherit; all others are set explicitly."""
LOCALE = "C.UTF-8"
"""File names are UTF-8 for every process: Java's and Python's encoding of them is the locale's."""
WRITABLE_BY_ALL = 0o002


def own_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment of a process of ours, before the variables that it is given."""
    chosen = {name: environ[name] for name in INHERITED if environ.get(name)}
    home = account_home()
    return {"PATH": os.defpath, **chosen, **({} if home is None else {"HOME": str(home)}), "LC_ALL": LOCALE}


def account_home() -> Path | None:
    """Return the account's home folder by the password database; None for a user that is not in it."""
    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return None


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder for downloads. Raises InvalidSettings where the account has no home."""
    for name, below in (("BARAZA_CACHE", ""), ("XDG_CACHE_HOME", "baraza"), ("HOME", ".cache/baraza")):
        folder = Path(environ.get(name) or "")
        if environ.get(name) and (folder.is_absolute() or name == "BARAZA_CACHE"):
            return (folder / below).absolute()
    home = account_home()
    if home is None:
        raise InvalidSettings("This user has no home folder; set BARAZA_CACHE to a folder of yours for downloads.")
    return home / ".cache" / "baraza"


def require_private(folder: Path) -> None:
    """Raise PermissionMissing where another user could have put a program into the folder."""
    if not folder.exists():
        return
    found = folder.stat()
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & WRITABLE_BY_ALL:
        raise PermissionMissing(
            f"{folder} belongs to another user or can be written by all, and programs are run from it; "
            "set BARAZA_CACHE to a folder of yours."
        )
