"""Fetches the files of a gateway account's feed, keeps each raw file, and only then reads it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import structlog
import urllib3
from sqlalchemy import Connection, text

from chassis.http.gateway_accounts import GatewayAccount
from reconciliation.lake import Lake
from reconciliation.model.columns import FeedRefused
from reconciliation.model.lines import READERS
from reconciliation.store import feeds
from reconciliation.store.feeds import File

FETCH_TIMEOUT_S: Final = 60.0
LIST_BYTES_MAX: Final = 16 * 1024 * 1024
FEED_BYTES_MAX: Final = 2 * 1024**3
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,199}", re.ASCII)
"""A name is a part of an address and of a path, so it has no slash."""
DIGESTS = text("""
    SELECT DISTINCT ON (name) name, digest FROM feed_files WHERE account = :account ORDER BY name, version DESC
""")

log = structlog.get_logger()


class FeedUnavailable(Exception):
    """The files of a feed cannot be fetched now. The next run tries again; a run is late until then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What a delivery brought: files that were read, that were refused, and that were known."""

    loaded: int = 0
    refused: int = 0
    known: int = 0


def deliver(account: GatewayAccount, lake: Lake, tx: Connection, *, now: datetime) -> Delivered:
    """Load what is new in an account's feed. Raises FeedUnavailable.

    1. The raw bytes are kept under their digest.
    2. They are read. A file that cannot be read is recorded as refused, with the line and the column.
    3. Its lines replace those of the same file as it was delivered before.
    """
    counted = {"loaded": 0, "refused": 0, "known": 0}
    latest = {row.name: row.digest for row in tx.execute(DIGESTS, {"account": account.name})}
    for name, data in _files(account, latest):
        if data is None:
            counted["known"] += 1
            continue
        digest = hashlib.sha256(data).hexdigest()
        file = File(account=account.name, name=name, digest=digest, byte_count=len(data))
        version = feeds.next_version(file, tx)
        if version is None:
            counted["known"] += 1
            continue
        # 1.
        kept = raw_name(account.name, digest)
        if not lake.exists(kept):
            lake.write(kept, data)
        # 2.
        try:
            lines = READERS[account.gateway](data)
        except FeedRefused as error:
            log.warning("A feed's file was refused.", account=account.name, file=name, reason=str(error))
            feeds.refuse(file, version, str(error), tx, now=now)
            counted["refused"] += 1
            continue
        # 3.
        feeds.load(file, version, lines, tx, now=now)
        counted["loaded"] += 1
    return Delivered(**counted)


def raw_name(account: str, digest: str) -> str:
    """Return where a raw file is kept."""
    return f"feeds/{account}/{digest}.csv"


def _files(account: GatewayAccount, latest: Mapping[str, str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield the files of a feed; None for one whose digest the gateway lists, and that we have."""
    assert account.feed is not None, "only an account with a feed is reconciled"
    if urlsplit(account.feed).scheme in ("http", "https"):
        yield from _over_http(account, account.feed.rstrip("/"), latest)
    else:
        yield from _in_folder(account.feed)


def _in_folder(feed: str) -> Iterator[tuple[str, bytes]]:
    folder = Path(unquote(urlsplit(feed).path) if feed.startswith("file:") else feed)
    try:
        for path in sorted(folder.glob("*.csv")):
            if NAME.fullmatch(path.name):
                yield path.name, path.read_bytes()
        if not folder.is_dir():
            raise FeedUnavailable(f"The folder {folder} of the feed is not there; check the gateway accounts' file.")
    except OSError as error:
        raise FeedUnavailable(f"The folder {folder} of the feed cannot be read: {error.strerror}.") from error


def _over_http(account: GatewayAccount, address: str, latest: Mapping[str, str]) -> Iterator[tuple[str, bytes | None]]:
    http = urllib3.PoolManager(retries=False, timeout=FETCH_TIMEOUT_S)
    try:
        headers = {"Authorization": f"Bearer {account.api_key}", "X-API-Key": account.api_key}
    except OSError as error:
        raise FeedUnavailable(f"The API key of {account.name} cannot be read: {error.strerror}.") from error
    address = address if address.endswith("/feeds") else f"{address}/feeds"
    listed = _listed(_get(http, address, headers, LIST_BYTES_MAX))
    for name, digest in listed:
        if digest is not None and latest.get(name) == digest:
            yield name, None
        else:
            yield name, _get(http, f"{address}/{quote(name)}", headers, FEED_BYTES_MAX)


def _listed(body: bytes) -> list[tuple[str, str | None]]:
    """Return the names of the files in order, with their SHA-256 where the gateway lists it. Raises FeedUnavailable."""
    try:
        found: Any = json.loads(body)
    except ValueError as error:
        raise FeedUnavailable("The list of the feed's files is no JSON.") from error
    items = found.get("feeds", found.get("data")) if isinstance(found, dict) else found
    if not isinstance(items, list):
        raise FeedUnavailable("The list of the feed's files is no list, nor an object with one in `feeds`.")
    named = [(item, None) if isinstance(item, str) else (item.get("name"), item.get("sha256")) for item in items]
    wrong = [name for name, _ in named if not isinstance(name, str) or NAME.fullmatch(name) is None]
    if wrong:
        raise FeedUnavailable(f"{len(wrong)} names of the feed's files are none: letters, digits and ._=- only.")
    return sorted(named, key=lambda each: str(each[0]))


def _get(http: urllib3.PoolManager, url: str, headers: Mapping[str, str], bytes_max: int) -> bytes:
    try:
        response = http.request("GET", url, headers=dict(headers), preload_content=False, redirect=False)
        try:
            body: bytes = response.read(bytes_max + 1, decode_content=True)
        finally:
            response.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise FeedUnavailable(f"{urlsplit(url).netloc} did not answer: {type(error).__name__}.") from error
    if response.status != 200 or len(body) > bytes_max:
        raise FeedUnavailable(f"{urlsplit(url).netloc} answered {response.status} with {len(body)} bytes.")
    return body
