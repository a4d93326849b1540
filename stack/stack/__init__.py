"""Starts and stops everything that an order needs, on this machine: ``up(from_environment())``."""

from stack.errors import (
    ComponentFailed,
    DiskFull,
    DockerUnavailable,
    DownloadFailed,
    InvalidSettings,
    NoStack,
    PermissionMissing,
    PlatformUnsupported,
    PortTaken,
    StackError,
)
from stack.lifecycle import ComponentStatus, Endpoints, Stack, down, up
from stack.progress import Progress, Watcher
from stack.settings import StackSettings, default_home, from_environment

__all__ = [
    "ComponentFailed",
    "ComponentStatus",
    "DiskFull",
    "DockerUnavailable",
    "DownloadFailed",
    "Endpoints",
    "InvalidSettings",
    "NoStack",
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
