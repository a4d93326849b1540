"""A program from Debian's archive, unpacked into the cache: without installation, and without root.

apt checks the archive's signature and the package's digest. The lists are kept in the cache as well.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from pathlib import Path

from stack.errors import DownloadFailed, PlatformUnsupported, translated_os_errors

DOWNLOAD_TIMEOUT_S = 300
"""The package lists and the package are about 35 MB."""


def path_of(package: str, name: str, cache: Path) -> Path:
    """Return the path of a program, whether it is fetched already or not."""
    found = shutil.which(name)
    return Path(found) if found else cache / "debian" / package / "usr" / "bin" / name


def fetch(package: str, name: str, cache: Path) -> Path:
    """Return the path of a program: on PATH, or else from Debian's ``package``, which is downloaded once.

    Raises PlatformUnsupported where there is neither the program nor apt, DownloadFailed, DiskFull.
    """
    target = path_of(package, name, cache)
    if target.exists():
        return target
    folder = cache / "debian" / package
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise PlatformUnsupported(
            f"{name} is not on PATH and this system is not Debian; install {package} and run this again."
        )
    with translated_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{package}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                _fetch(package, folder)
    return target


def _fetch(package: str, folder: Path) -> None:
    """1. Fetch the lists into a state of our own. 2. Fetch the package. 3. Unpack it, and move it to its folder."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        state = Path(scratch)
        for needed in ("state/lists/partial", "cache/archives/partial"):
            (state / needed).mkdir(parents=True)
        options = [
            *("-o", f"Dir::State={state / 'state'}", "-o", "Dir::State::status=/var/lib/dpkg/status"),
            *("-o", f"Dir::Cache={state / 'cache'}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="),
        ]
        _run(["apt-get", *options, "-q", "update"], state, package)
        _run(["apt-get", *options, "-q", "download", package], state, package)
        (archive,) = state.glob(f"{package}_*.deb")
        _run(["dpkg-deb", "-x", str(archive), str(state / "content")], state, package)
        (state / "content").rename(folder)


def _run(command: list[str], folder: Path, package: str) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise DownloadFailed(f"Debian's archive did not answer in {error.timeout:g} s; run this again.") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:] or ["no output"]
        raise DownloadFailed(
            f"{package} could not be fetched from Debian's archive: {last[0]} Install it, or run this again."
        ) from error
