"""What can go wrong with the stack. Every message is one sentence or two: what happened, then what to do.

StackError
├── InvalidSettings      a setting contradicts another, or what the data folder already holds
├── DownloadFailed       a file did not arrive whole
├── PortTaken            a port that a component needs belongs to another process
├── DiskFull             no space left in the data folder or the cache
├── PlatformUnsupported  a binary does not run on this machine
├── PermissionMissing    a file or an identity is out of reach
├── ComponentFailed      a component ended while it was starting, or never became ready
├── DockerUnavailable    Docker does not answer, or an image cannot be had
└── NoStack              the data folder holds no stack, or the stack is down
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StackError(Exception):
    """The root of all of them; its text is meant for the person at the terminal."""


class InvalidSettings(StackError):
    """A setting contradicts another one, or what the data folder already holds."""


class DownloadFailed(StackError):
    """A file did not arrive whole; what arrived is kept and the next run goes on from there."""


class PortTaken(StackError):
    """Another process listens where a component of ours should."""


class DiskFull(StackError):
    """No space left where the data or the downloads are kept."""


class PlatformUnsupported(StackError):
    """A binary that came as a wheel does not run here."""


class PermissionMissing(StackError):
    """A file or an identity that is needed is out of reach for this user."""


class ComponentFailed(StackError):
    """A component ended while it was starting, or did not become ready in time."""


class DockerUnavailable(StackError):
    """Docker does not answer, or one of its images cannot be had."""


class NoStack(StackError):
    """There is no stack in the data folder, or it is down."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals around ``path`` into sentences; everything else passes through."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"No space left for {path}; free at least 2 GB there, then run this again.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise PermissionMissing(
                f"{error.filename or path} cannot be written; make it writable, or choose another folder with --home."
            ) from error
        raise
