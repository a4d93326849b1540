"""A program from Debian's archive, unpacked into the cache: without installation, and without root.

apt checks the archive's signature and the package's digest. The lists are kept in the cache as well.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from stack.errors import DownloadFailed, PlatformUnsupported, translated_os_errors

DOWNLOAD_TIMEOUT_S = 300
"""The package lists and the package are about 35 MB."""
CLOSURE_TIMEOUT_S = 900
"""A browser with its libraries is 120 to 250 MB."""


def path_of(package: str, name: str, cache: Path) -> Path:
    """Return the path of a program, whether it is fetched already or not."""
    found = shutil.which(name)
    return Path(found) if found else cache / "debian" / package / "usr" / "bin" / name


def fetch(package: str, name: str, cache: Path) -> Path:
    """Return the path of a program: on PATH, or else from Debian's ``package``, which is downloaded once.

    Raises PlatformUnsupported where there is neither the program nor apt, DownloadFailed, DiskFull.
    """
    target = path_of(package, name, cache)
    if not target.exists():
        _fetch_once(package, (package,), cache / "debian" / package, with_libraries=False)
    return target


def fetch_with_libraries(packages: Sequence[str], cache: Path) -> Path:
    """Return the folder with the first package, the others, and all libraries that this machine lacks for them.

    They are unpacked there as below ``/``, once; the caller names the folders of the libraries to the program.
    Raises PlatformUnsupported, DownloadFailed, DiskFull.
    """
    folder = cache / "debian" / f"{packages[0]}-with-libraries"
    if not folder.exists():
        _fetch_once(packages[0], packages, folder, with_libraries=True)
    return folder


def _fetch_once(package: str, packages: Sequence[str], folder: Path, *, with_libraries: bool) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise PlatformUnsupported(
            f"{package} is not on PATH and this system is not Debian; install {package} and run this again."
        )
    with translated_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                _fetch(package, packages, folder, with_libraries=with_libraries)


def _fetch(package: str, packages: Sequence[str], folder: Path, *, with_libraries: bool) -> None:
    """1. Fetch the lists into a state of our own. 2. Fetch the packages. 3. Unpack them, then rename their folder."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        state = Path(scratch)
        for needed in ("state/lists/partial", "cache/archives/partial"):
            (state / needed).mkdir(parents=True)
        options = [
            *("-o", f"Dir::State={state / 'state'}", "-o", "Dir::State::status=/var/lib/dpkg/status"),
            *("-o", f"Dir::Cache={state / 'cache'}", "-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User="),
        ]
        # 1.
        _run(["apt-get", *options, "-q", "update"], state, package)
        # 2.
        if with_libraries:
            chosen = ["-q", "-y", "--no-install-recommends", "--download-only", "install", *packages]
            _run(["apt-get", *options, *chosen], state, package, timeout_s=CLOSURE_TIMEOUT_S)
        else:
            _run(["apt-get", *options, "-q", "download", *packages], state, package)
        # 3.
        for archive in sorted([*state.glob("*.deb"), *state.glob("cache/archives/*.deb")]):
            _run(["dpkg-deb", "-x", str(archive), str(state / "content")], state, package)
        (state / "content").rename(folder)


def _run(command: list[str], folder: Path, package: str, *, timeout_s: int = DOWNLOAD_TIMEOUT_S) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise DownloadFailed(f"Debian's archive did not answer in {error.timeout:g} s; run this again.") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout).strip().splitlines()[-1:] or ["no output"]
        raise DownloadFailed(
            f"{package} could not be fetched from Debian's archive: {last[0]} Install it, or run this again."
        ) from error
