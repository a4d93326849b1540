"""supervisord runs every process of the stack: it restarts processes that end, and rotates the logs.

The order of a start is ours: no program starts by itself. :mod:`stack.starting` starts each one through its
socket when its dependencies are ready.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import Faults, SupervisorTransport  # type: ignore[import-untyped]

from stack import identity
from stack.components import Component
from stack.environment import own_environment
from stack.errors import ComponentFailed, InvalidSettings, PermissionMissing
from stack.home import Home, replace
from stack.strays import MARKER
from stack.waiting import until

NAME = "supervisord"
SOCKET_PATH_MAX = 80
"""A socket's path may have 107 bytes, and supervisord appends its pid while it binds."""
START_DEADLINE_S = 15
STOP_DEADLINE_S = 90
"""Longer than any program has before it is killed."""
RESTARTS_MAX = 100_000
"""A service outlives any outage of a dependency; the wait between restarts grows by a second each time."""
LOG_BYTES_MAX = "20MB"
LOG_BACKUPS = 2


class ProcessState(StrEnum):
    """The state of a process, in supervisord's words."""

    STOPPED = "STOPPED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    BACKOFF = "BACKOFF"
    STOPPING = "STOPPING"
    EXITED = "EXITED"
    FATAL = "FATAL"
    UNKNOWN = "UNKNOWN"


FINAL = frozenset({ProcessState.STOPPED, ProcessState.FATAL})
"""States that supervisord never leaves by itself."""
DOWN = frozenset({ProcessState.STOPPED, ProcessState.EXITED, ProcessState.FATAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One process as supervisord reports it; ``pid`` is 0 where there is none, ``started_at_s`` a Unix time."""

    name: str
    state: ProcessState
    pid: int
    started_at_s: int
    description: str


class Supervisor:
    """The supervisor of one home. It runs detached and is found again through its socket."""

    def __init__(self, home: Home, stack_id: str) -> None:
        self._home = home
        self._stack_id = stack_id
        self._configuration = home.run / "supervisord.conf"
        self._pid_file = home.run / "supervisord.pid"
        self._socket = _socket_path(home)

    def is_alive(self) -> bool:
        """Return whether it answers."""
        try:
            return bool(self._call("getState"))
        except (OSError, http.client.HTTPException):
            return False

    def launch(self) -> None:
        """Start it with no programs. Raises ComponentFailed."""
        self._socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._socket.parent.stat().st_uid != os.geteuid():
            raise PermissionMissing(
                f"{self._socket.parent} belongs to another user; choose a --home with a shorter path."
            )
        self._write(())
        command = (sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(self._configuration))
        with self._home.log(NAME).open("a") as output:
            try:
                # It becomes a daemon once its socket is open, so this returns at once.
                subprocess.run(
                    command, check=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/",
                    env=self._environment(), umask=0o077, timeout=START_DEADLINE_S,
                )  # fmt: skip
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                raise self._home.failure(NAME, "supervisord does not start") from error
        until(self.is_alive, what="supervisord to answer", deadline_s=START_DEADLINE_S)

    def apply(self, components: Iterable[Component]) -> list[str]:
        """Replace its programs with ``components``; return those that ran and were stopped because they changed."""
        self._write(components)
        added, changed, removed = self._call("reloadConfig")[0]
        was_running = [name for name in changed if self.status(name).state not in DOWN]
        for name in (*changed, *removed):
            self.stop((name,))
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)
        return was_running

    def start(self, name: str) -> None:
        """Start a program, unless it runs already."""
        self._call("startProcess", name, False, unless=Faults.ALREADY_STARTED)

    def stop(self, names: Iterable[str]) -> None:
        """Stop programs in parallel and wait until all are gone. The supervisor kills those that take too long."""
        stopping = tuple(names)
        until(
            lambda: not [name for name in stopping if not self._is_stopped(name)],
            what=f"{', '.join(stopping)} to stop",
            deadline_s=STOP_DEADLINE_S,
        )

    def _is_stopped(self, name: str) -> bool:
        """Return whether a program is stopped for good; stop it otherwise, even if it has just ended by itself.

        supervisord is about to restart a program that has ended, and accepts no stop until then.
        """
        state = self.status(name).state
        if state not in (*FINAL, ProcessState.STOPPING):
            self._call("stopProcess", name, False, unless=Faults.NOT_RUNNING)
        return state in FINAL

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a program's process."""
        self._call("signalProcess", name, number.name.removeprefix("SIG"))

    def statuses(self) -> dict[str, ProcessStatus]:
        """Return every program's status by name."""
        return {entry["name"]: _status(entry) for entry in self._call("getAllProcessInfo")}

    def status(self, name: str) -> ProcessStatus:
        """Return one program's status."""
        return _status(self._call("getProcessInfo", name))

    def shutdown(self) -> None:
        """End it, once its programs are stopped."""
        process = psutil.Process(int(self._call("getPID")))
        self._call("shutdown")
        process.wait(STOP_DEADLINE_S)
        if self._socket.parent != self._home.run:
            shutil.rmtree(self._socket.parent, ignore_errors=True)

    def _call(self, method: str, *arguments: Any, unless: int | None = None) -> Any:
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
            try:
                return getattr(server.supervisor, method)(*arguments)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode == unless:
                    return None
                raise ComponentFailed(f"supervisord refused {method}: {fault.faultString}") from fault
            finally:
                transport.close()

    def _environment(self) -> dict[str, str]:
        return own_environment() | {MARKER: self._stack_id, "PYTHONUNBUFFERED": "1"}

    def _write(self, components: Iterable[Component]) -> None:
        sections = [
            f"[unix_http_server]\nfile={_escape(self._socket)}\nchmod=0600",
            f"[supervisord]\npidfile={_escape(self._pid_file)}\n"
            f"logfile={_escape(self._home.log(NAME))}\nlogfile_maxbytes={LOG_BYTES_MAX}\n"
            f"childlogdir={_escape(self._home.logs)}\numask=077" + ("\nuser=root" if identity.is_root() else ""),
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
            *(self._program(component) for component in components),
        ]
        replace(self._configuration, "\n\n".join(sections) + "\n")

    def _program(self, component: Component) -> str:
        command = identity.wrapped(
            component.command,
            on_death=component.stop_signal,
            unprivileged=component.unprivileged,
            niceness=component.niceness,
        )
        options = {
            "command": _escape(shlex.join(command)),
            "directory": _escape(self._home.path),
            "environment": variables(component.environment),
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "1",
            "startretries": str(RESTARTS_MAX),
            "stopsignal": component.stop_signal.name.removeprefix("SIG"),
            "stopwaitsecs": str(component.stop_wait_s),
            "killasgroup": "true",
            "redirect_stderr": "true",
            # supervisord expands this one twice.
            "stdout_logfile": _escape(_escape(self._home.log(component.name))),
            "stdout_logfile_maxbytes": LOG_BYTES_MAX,
            "stdout_logfile_backups": str(LOG_BACKUPS),
        }
        return "\n".join((f"[program:{component.name}]", *(f"{name}={value}" for name, value in options.items())))


def _status(entry: Mapping[str, Any]) -> ProcessStatus:
    return ProcessStatus(
        name=entry["name"],
        state=ProcessState(entry["statename"]),
        pid=entry["pid"],
        started_at_s=entry["start"],
        description=entry["spawnerr"] or entry["description"],
    )


def _socket_path(home: Home) -> Path:
    path = home.run / "supervisord.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        return path
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"baraza-{os.geteuid()}-{digest}" / "supervisord.sock"


def _escape(value: object) -> str:
    return str(value).replace("%", "%%")


def variables(environment: Mapping[str, str]) -> str:
    """Return variables as supervisord's settings have them. Raises InvalidSettings for a value that it would change."""
    return ",".join(f"{name}={_quoted(name, value)}" for name, value in environment.items())


def _quoted(name: str, value: str) -> str:
    """Return a value in the kind of quotes that it does not have; the parser has no escapes, and strips both kinds."""
    quote = "'" if '"' in value else '"'
    is_changed = quote in value or value.strip("'\"") != value
    if is_changed or set(value) & set("\\\n\r") or " ;" in value or " #" in value:
        raise InvalidSettings(
            f"The value of {name} holds both kinds of quotes or one at an end, a backslash, a comment or a line break."
        )
    return f"{quote}{_escape(value)}{quote}"
