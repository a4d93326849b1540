"""The Java components' files from Maven Central: pinned by digest, kept in the cache, resumed after an interruption.

A file gets its final name only after its digest matches, so a broken download is never mistaken for a complete one.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import shutil
import ssl
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import certifi
import tenacity
from jgo.constants import MAVEN_CENTRAL_URL

from stack.errors import DiskFull, DownloadFailed, translated_os_errors

PINNED = Path(__file__).with_name("downloads.json")
MIRROR_VARIABLE = "BARAZA_MAVEN_URL"
CONNECTIONS_MAX = 6
"""More gain nothing on an ordinary line, and Maven Central throttles clients with many."""
ATTEMPTS_MAX = 4
PAUSE_S = 1.0
"""Multiplied by the attempt, to give a broken line or an overloaded server time."""
TIMEOUT_S = 30
CHUNK_BYTES = 1 << 18


class _WrongDigest(Exception):
    """What arrived is not what is pinned; it is downloaded again."""


RETRYABLE = (
    urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError, _WrongDigest,
)  # fmt: skip

Arrived = Callable[[int, int], None]
"""Called after each chunk with the bytes that have arrived and the bytes in total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """One file of the mirror: its path there, its size in bytes and its digest."""

    path: str
    size: int
    sha256: str


def pinned(component: str) -> tuple[Download, ...]:
    """Return the files that a component consists of."""
    return tuple(Download(**entry) for entry in json.loads(PINNED.read_text())[component])


def digest(content: bytes) -> str:
    """Return the digest that a download is pinned by."""
    return hashlib.sha256(content).hexdigest()


def files(component: str, cache: Path) -> list[Path]:
    """Return the paths of the component's files, whether they are fetched already or not."""
    return [cache / "maven" / download.path for download in pinned(component)]


def fetch(component: str, cache: Path, arrived: Arrived) -> list[Path]:
    """Return the component's files; download those that are not in the cache. Two processes may call it at once.

    Raises DownloadFailed, DiskFull, PermissionMissing.
    """
    folder = cache / "maven"
    wanted = files(component, cache)
    if all(file.exists() for file in wanted):
        return wanted
    with translated_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{component}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _fetch_all(
                [download for download in pinned(component) if not (folder / download.path).exists()], folder, arrived
            )
    return wanted


def unpacked(archive: Path, cache: Path) -> Path:
    """Return the folder of an archive's content, whether it is unpacked already or not."""
    return cache / archive.name.removesuffix(".tar.gz")


def unpack(archive: Path, cache: Path) -> None:
    """Unpack an archive; two processes may do it at once. Raises DiskFull, DownloadFailed."""
    folder = unpacked(archive, cache)
    draft = folder.with_name(f"{folder.name}.{os.getpid()}.new")
    with translated_os_errors(folder):
        try:
            with tarfile.open(archive) as tar:
                # Debian 12's Python 3.11.2 does not know the filter yet; the archive is one that we pinned.
                tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, _path: member)
                tar.extractall(draft)
        except tarfile.TarError as error:
            raise DownloadFailed(f"{archive} cannot be unpacked ({error}); delete it and run this again.") from error
        try:
            draft.rename(folder)
        except OSError:
            if not folder.exists():
                raise
            shutil.rmtree(draft)


def _fetch_all(downloads: list[Download], folder: Path, arrived: Arrived) -> None:
    total = sum(download.size for download in downloads)
    free = shutil.disk_usage(folder).free
    if free < 2 * total:
        raise DiskFull(
            f"{free >> 20} MB are free for {folder}, {2 * total >> 20} MB are needed; free some and run this again."
        )
    mirror = os.environ.get(MIRROR_VARIABLE, MAVEN_CENTRAL_URL).rstrip("/")
    there = 0
    lock = Lock()

    def count(size: int) -> None:
        nonlocal there
        with lock:
            there += size
            arrived(there, total)

    with ThreadPoolExecutor(CONNECTIONS_MAX) as pool:
        tasks = [pool.submit(_fetch_one, download, mirror, folder, count) for download in downloads]
        try:
            for task in tasks:
                task.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(download: Download, mirror: str, folder: Path, count: Callable[[int], None]) -> None:
    target = folder / download.path
    partial = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)

    def attempt() -> None:
        _resume(f"{mirror}/{download.path}", partial, download.size, count)
        if digest(partial.read_bytes()) != download.sha256:
            partial.unlink()
            raise _WrongDigest("what arrived has another digest than the pinned one")
        partial.rename(target)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(RETRYABLE),
        stop=tenacity.stop_after_attempt(ATTEMPTS_MAX),
        wait=tenacity.wait_incrementing(start=PAUSE_S, increment=PAUSE_S),
        reraise=True,
    )
    try:
        retrying(attempt)
    except RETRYABLE as failure:
        raise DownloadFailed(
            f"{mirror}/{download.path} did not arrive ({failure}); check the network or HTTPS_PROXY, "
            f"or name a mirror with {MIRROR_VARIABLE}, and run this again: what has arrived is kept."
        ) from failure


def _resume(url: str, partial: Path, size: int, count: Callable[[int], None]) -> None:
    """Append to ``partial`` the missing bytes of ``size``; a mirror that cannot resume sends the file again."""
    have = partial.stat().st_size if partial.exists() else 0
    if have == size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "baraza", "Range": f"bytes={have}-"})
    with (
        urllib.request.urlopen(request, timeout=TIMEOUT_S, context=_trust()) as response,
        partial.open("ab" if response.status == http.client.PARTIAL_CONTENT else "wb") as file,
    ):
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            count(len(chunk))
    if (have := partial.stat().st_size) < size:
        raise ConnectionError(f"the connection ended after {have} of {size} bytes")


def _trust() -> ssl.SSLContext:
    """Trust the system's authorities, which may include a company's proxy, and certifi's, for systems without any."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
