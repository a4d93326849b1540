"""One process of a stack as people see it: whether it is ready, since when it runs, and how much memory it has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil

from stack import containers, plan
from stack.components import Component
from stack.home import State
from stack.supervision import ProcessState, ProcessStatus, Supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentStatus:
    """One process or container: ``state`` in supervisord's words, ``pid`` 0 in a container or where there is none.

    ``started_at`` and ``memory_bytes`` are unknown for a container, and None where nothing runs.
    """

    name: str
    service: str
    state: str
    ready: bool
    pid: int
    address: str
    up_s: int
    started_at: datetime | None
    memory_bytes: int | None


def status_of(component: Component, state: State, supervisor: Supervisor) -> ComponentStatus:
    """Return the status of one process, or of one container."""
    if state.docker and component.service in plan.INFRASTRUCTURE:
        runs = containers.is_running(state, component.name)
        return _status(component, ProcessState.RUNNING if runs else ProcessState.STOPPED, None)
    process = supervisor.status(component.name)
    return _status(component, process.state, process if process.pid else None)


def memory_bytes(pid: int) -> int | None:
    """Return the resident memory of a process with its children; None where it has ended.

    What children share with others counts once: PostgreSQL's have its buffers in common.
    """
    try:
        process = psutil.Process(pid)
        total: int = process.memory_info().rss
        children = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return None
    return total + sum(map(_own_bytes, children))


def _own_bytes(child: psutil.Process) -> int:
    try:
        memory = child.memory_info()
    except psutil.NoSuchProcess:
        return 0
    own: int = memory.rss - memory.shared
    return max(own, 0)


def _status(component: Component, state: ProcessState, process: ProcessStatus | None) -> ComponentStatus:
    return ComponentStatus(
        name=component.name,
        service=component.service,
        state=state,
        ready=state == ProcessState.RUNNING and component.is_ready(),
        pid=process.pid if process else 0,
        address=component.address,
        up_s=int(time.time()) - process.started_at_s if process else 0,
        started_at=datetime.fromtimestamp(process.started_at_s, UTC) if process else None,
        memory_bytes=memory_bytes(process.pid) if process else None,
    )
