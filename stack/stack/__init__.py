"""Starts and stops everything that an order needs, on this machine: ``up(from_environment())``."""

from stack.errors import (
    ComponentFailed,
    DiskFull,
    DockerUnavailable,
    DownloadFailed,
    InvalidSettings,
    NoStack,
    NotStarted,
    PermissionMissing,
    PlatformUnsupported,
    PortTaken,
    StackError,
)
from stack.lifecycle import Endpoints, Stack, down, up
from stack.progress import Progress, Watcher
from stack.settings import StackSettings, default_home, from_environment
from stack.status import ComponentStatus

__all__ = [
    "ComponentFailed",
    "ComponentStatus",
    "DiskFull",
    "DockerUnavailable",
    "DownloadFailed",
    "Endpoints",
    "InvalidSettings",
    "NoStack",
    "NotStarted",
    "PermissionMissing",
    "PlatformUnsupported",
    "PortTaken",
    "Progress",
    "Stack",
    "StackError",
    "StackSettings",
    "Watcher",
    "default_home",
    "down",
    "from_environment",
    "up",
]
