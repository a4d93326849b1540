"""Starts and stops everything that an order needs, for real and on this machine alone: ``up(from_environment())``."""

from stack.errors import (
    DiskFull,
    DockerUnavailable,
    DownloadFailed,
    InvalidSettings,
    NoStack,
    PartFailed,
    PermissionMissing,
    PlatformUnsupported,
    PortTaken,
    StackError,
)
from stack.progress import Progress, Watcher
from stack.running import Endpoints, PartStatus, Stack, down, up
from stack.settings import StackSettings, default_home, from_environment

__all__ = [
    "DiskFull",
    "DockerUnavailable",
    "DownloadFailed",
    "Endpoints",
    "InvalidSettings",
    "NoStack",
    "PartFailed",
    "PartStatus",
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
