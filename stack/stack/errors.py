"""The errors of the stack. Every message is one or two sentences: what happened, then what to do.

StackError
├── InvalidSettings      a setting contradicts another one, or the existing data folder
├── DownloadFailed       a file did not arrive whole
├── PortTaken            a port that a component needs belongs to another process
├── DiskFull             no space left in the data folder or the cache
├── PlatformUnsupported  a binary does not run on this machine
├── PermissionMissing    this user has no access to a file or an identity
├── ComponentFailed      a component ended while it was starting, or never became ready
├── DockerUnavailable    Docker does not answer, or an image cannot be pulled
├── NotStarted           a service is needed that none of the selected sagas needs
└── NoStack              the data folder holds no stack, or the stack is down
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_FOLDER = frozenset(
    {errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR, errno.EINVAL}
)
"""The path leads to a file, through a file, nowhere, or is none."""


class StackError(Exception):
    """The root of these errors. Their texts are for the person at the terminal."""


class InvalidSettings(StackError):
    """A setting contradicts another one, or the existing data folder."""


class DownloadFailed(StackError):
    """A file did not arrive whole. What arrived is kept, and the next run continues from there."""


class PortTaken(StackError):
    """Another process listens on a component's port."""


class DiskFull(StackError):
    """There is no space left for the data or the downloads."""


class PlatformUnsupported(StackError):
    """A binary from a wheel does not run on this machine."""


class PermissionMissing(StackError):
    """This user has no access to a file or an identity that is needed."""


class ComponentFailed(StackError):
    """A component ended while it was starting, or did not become ready in time."""


class DockerUnavailable(StackError):
    """Docker does not answer, or an image cannot be pulled."""


class NotStarted(StackError):
    """A service is needed that is not started, because none of the selected sagas needs it."""


class NoStack(StackError):
    """There is no stack in the data folder, or it is down."""


@contextmanager
def translated_os_errors(path: Path) -> Iterator[None]:
    """Translate the operating system's errors about ``path`` into ours, with a remedy; all others pass through."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"No space left for {path}; free at least 2 GB there, then run this again.") from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise PermissionMissing(
                f"{error.filename or path} cannot be written; make it writable, or choose another folder with --home."
            ) from error
        if error.errno in NO_FOLDER:
            reason = (error.strerror or "").lower()
            raise InvalidSettings(
                f"{error.filename or path} cannot be a folder of the stack: {reason}; choose another with --home."
            ) from error
        raise
