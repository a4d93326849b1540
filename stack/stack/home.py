"""The one folder with everything that a stack keeps: data, logs, passwords, and its description in ``stack.json``."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import secrets
import shlex
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import RLock

from pydantic import TypeAdapter, ValidationError

from stack.errors import (
    ComponentFailed,
    DiskFull,
    InvalidSettings,
    NoStack,
    PermissionMissing,
    StackError,
    translated_os_errors,
)

STATE_VERSION = 2
"""2: Kafka requires a login, and its data folder is formatted with the first ones."""
COMPONENTS_KEY = "parts"
"""The key of the components in ``stack.json``, as existing stacks have it."""
STACK_ID = "[0-9a-f]{32}"
PASSWORD_BYTES = 24
SUDO_CALLER = "SUDO_UID"
"""The variable in which sudo names the user who called it."""
DISK_FREE_BYTES_MIN = 32 << 20
"""Below this every component fails sooner or later, each with its own error."""


@dataclass(slots=True, kw_only=True)
class State:
    """The content of ``stack.json``. ``done`` holds digests of deploy steps that need not run again.

    Without ``sagas`` all are selected whose services are installed.
    """

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    version: int = STATE_VERSION
    docker: bool = False
    proxied: bool = False
    observed: bool = False
    tls: bool = True
    optimised: bool = False
    cache: str = ""
    partitions: int = 0
    ports: dict[str, int] = field(default_factory=dict)
    components: list[str] = field(default_factory=list)
    sagas: list[str] = field(default_factory=list)
    replicas: dict[str, int] = field(default_factory=dict)
    environment: dict[str, dict[str, str]] = field(default_factory=dict)
    substitutes: dict[str, str] = field(default_factory=dict)
    done: dict[str, str] = field(default_factory=dict)


class Home:
    """The folder's layout. Nothing is created before :meth:`prepare`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state_file = path / "stack.json"
        self.secrets = path / "secrets"
        self.logs = path / "logs"
        self.run = path / "run"
        self.secrets_lock = RLock()
        """Held while a secret is created, so that components which start in parallel find the same one."""

    def prepare(self) -> None:
        """Create the folders, readable by their owner only. Raises PermissionMissing, DiskFull."""
        self.check_owner()
        with translated_os_errors(self.path):
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.secrets, self.logs, self.run):
                folder.mkdir(mode=0o700, exist_ok=True)

    def check_owner(self) -> None:
        """Raise PermissionMissing where the folder is another user's, before a file in it becomes ours.

        A new one is judged by the folder above it where sudo runs us: it would belong to root.
        """
        try:
            owner = self.path.stat().st_uid
        except OSError:
            existing = next((folder for folder in self.path.parents if folder.exists()), None)
            caller = os.environ.get(SUDO_CALLER)
            if existing is None or caller is None or str(existing.stat().st_uid) != caller:
                return
            owner = int(caller)
        if owner != os.geteuid():
            raise PermissionMissing(
                f"{self.path} belongs to {_name_of(owner)}; run this as that user, without sudo, "
                "or choose another folder with --home."
            )
        if self.state_file.exists() and self.state_file.stat().st_uid != owner:
            raise PermissionMissing(
                f"{self.state_file} belongs to {_name_of(self.state_file.stat().st_uid)}, and {self.path} to you; "
                f"give it back with: sudo chown -R {owner} {shlex.quote(str(self.path))}"
            )

    def folder(self, name: str) -> Path:
        """Return a component's data folder; it may not exist yet."""
        return self.path / name

    def log(self, process: str) -> Path:
        """Return the file that holds a process's output."""
        return self.logs / f"{process}.log"

    def log_tail(self, process: str, lines_max: int = 12) -> str:
        """Return the last lines of a process's log, or an empty text where there are none."""
        try:
            text = self.log(process).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.rstrip().splitlines()[-lines_max:])

    def failure(self, process: str, what: str) -> StackError:
        """Return the error for a failed process: a full disk where that is the cause, else the end of its log."""
        log, tail = self.log(process), self.log_tail(process)
        if "No space left" in tail or self.shortage() is not None:
            return DiskFull(f"{what}: no space left for {self.path}; free at least 2 GB there, then run this again.")
        return ComponentFailed(f"{what}; its log, {log}, ends:\n{tail}")

    def shortage(self) -> str | None:
        """Return a sentence for a disk without space for this folder; None where there is some, or no such folder."""
        try:
            disk = os.statvfs(self.path)
        except OSError:
            return None
        free_bytes = disk.f_bavail * disk.f_frsize
        has_inodes = disk.f_favail > 0 or disk.f_files == 0
        if free_bytes >= DISK_FREE_BYTES_MIN and has_inodes:
            return None
        left = f"{free_bytes >> 20} MB" if has_inodes else "no inodes"
        return (
            f"The disk of {self.path} is full ({left} left), so processes of its stack fail; free at least 2 GB there. "
            "They then continue by themselves."
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let one process at a time change this stack; others wait. A killed process releases the lock."""
        self.check_owner()
        with translated_os_errors(self.path), (self.run / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def load(self) -> State:
        """Return the state from ``stack.json``. Raises NoStack if it is missing, InvalidSettings if it is damaged."""
        try:
            state = _state_of(self._stored())
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidSettings(f"{self.state_file} is damaged ({error}); use a new --home.") from error
        if state.version != STATE_VERSION:
            raise InvalidSettings(
                f"{self.state_file} has version {state.version}, not {STATE_VERSION}; use another --home."
            )
        return state

    def _stored(self) -> str:
        with translated_os_errors(self.path):
            try:
                return self.state_file.read_text(encoding="utf-8-sig")
            except FileNotFoundError:
                raise NoStack(f"There is no stack in {self.path}; start one with 'baraza up'.") from None

    def save(self, state: State) -> None:
        """Replace ``stack.json`` in one move, so that a crash leaves the old one or the new one."""
        with translated_os_errors(self.path):
            stored = asdict(state)
            stored[COMPONENTS_KEY] = stored.pop("components")
            replace(self.state_file, json.dumps(stored, indent=2, sort_keys=True) + "\n")

    def password_file(self, role: str) -> Path:
        """Return the file that holds a role's password."""
        return self.secrets / role

    def password(self, role: str, new: Callable[[], str] | None = None) -> str:
        """Return a role's password, created once (by ``new``) in a file that only its owner can read."""
        file = self.password_file(role)
        with translated_os_errors(file), self.secrets_lock:
            if not file.exists():
                self.store(role, (new or new_password)())
            return file.read_text().strip()

    def store(self, role: str, password: str) -> None:
        """Replace a role's password in its file, in one move."""
        replace(self.password_file(role), password + "\n")


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _state_of(text: str) -> State:
    """Return the state that a ``stack.json`` holds. Raises ValueError or TypeError."""
    stored = json.loads(text)
    if not isinstance(stored, dict) or not re.fullmatch(STACK_ID, str(stored.get("id"))):
        raise ValueError("it has no stack's id")
    state = State(components=stored.pop(COMPONENTS_KEY, []), **stored)
    try:
        return TypeAdapter(State).validate_python(asdict(state))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def new_password() -> str:
    """Return a random password."""
    return secrets.token_urlsafe(PASSWORD_BYTES)


def replace(path: Path, text: str) -> None:
    """Write a file in one move, readable by its owner only; the new one is on disk before the old one is gone."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
