"""The stack's short codes at the simulated providers of mobile money: the file of our service, those of the providers.

A key and a secret are files in the home, which both sides read. The provider makes the pair of keys that encrypts an
initiator's password itself, and publishes the certificate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stack.home import Home, new_password, replace
from stack.providers import DARAJA, MOBILE_MONEY, MOMO

CALLBACK_PATH = "/v1/callbacks"
CERTIFICATE_PATH = "/certificate"
INITIATOR = "baraza"
KEY, SECRET, CALLBACK, PASSKEY, PASSWORD = "key", "secret", "callback", "passkey", "initiator"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortCode:
    """One short code of the stack."""

    provider: str
    digits: str
    currency: str = "KES"
    calls_per_s: float = 20.0

    @property
    def name(self) -> str:
        """Its name here; in paths and files."""
        return f"{self.provider}-{self.digits}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its secrets; those of an initiator are Daraja's alone."""
        own = (KEY, SECRET, CALLBACK)
        return (*own, PASSKEY, PASSWORD) if self.provider == DARAJA else own

    def secret(self, kind: str) -> str:
        """Return the name of a secret's file in the home."""
        return f"{self.name}-{kind}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """The names of all of its secrets' files."""
        return tuple(self.secret(kind) for kind in self.kinds)


SHORT_CODES = (ShortCode(provider=DARAJA, digits="600100"), ShortCode(provider=MOMO, digits="700200"))
"""The calls a second are what a limiter that a large user published allows."""


def ensure_secrets(home: Home) -> None:
    """Create the secrets that are missing."""
    for each in SHORT_CODES:
        for name in each.secrets:
            home.password(name, new_password)


def for_service(
    home: Home, urls: Mapping[str, str], called: str, *, side: str = "", calls_per_s: float | None = None
) -> Path:
    """Write the short codes as our service reads them, and return the file.

    ``urls`` are those of the providers, ``called`` is where they call back. Behind toxiproxy each side has addresses of
    its own, and hence a file of its own.
    """
    file = home.path / f"short-codes{side and f'-{side}'}.json"
    listed = [_ours(home, each, urls[each.provider], called, calls_per_s) for each in SHORT_CODES]
    _write(file, {"short_codes": listed})
    return file


def for_simulator(home: Home, provider: str, *, calls_per_s: float | None = None) -> Path:
    """Write a provider's own list of its short codes, and return the file."""
    file = home.folder("simulators") / f"{provider}-short-codes.json"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    listed = [
        {
            "short_code": each.digits,
            "currency": each.currency,
            "calls_per_s": calls_per_s or each.calls_per_s,
            **_files(home, each, but=(CALLBACK,)),
            **({"initiator": INITIATOR} if provider == DARAJA else {}),
        }
        for each in SHORT_CODES
        if each.provider == provider
    ]
    _write(file, {"short_codes": listed})
    return file


def _ours(home: Home, each: ShortCode, url: str, called: str, calls_per_s: float | None) -> dict[str, object]:
    listed: dict[str, object] = {
        "name": each.name,
        "provider": each.provider,
        "short_code": each.digits,
        "currency": each.currency,
        "url": url,
        "callback_url": f"{called}{CALLBACK_PATH}/{each.name}",
        "calls_per_s": calls_per_s or each.calls_per_s,
        **_files(home, each),
    }
    if each.provider == DARAJA:
        listed |= {"initiator": INITIATOR, "certificate": f"{url}{CERTIFICATE_PATH}"}
    return listed


def _files(home: Home, each: ShortCode, but: tuple[str, ...] = ()) -> dict[str, object]:
    names = {KEY: "key_file", SECRET: "secret_file", CALLBACK: "callback_secret_file", PASSKEY: "passkey_file",
             PASSWORD: "initiator_password_file"}  # fmt: skip
    return {names[kind]: str(home.password_file(each.secret(kind))) for kind in each.kinds if kind not in but}


def _write(file: Path, content: Mapping[str, object]) -> None:
    text = json.dumps(content, indent=2) + "\n"
    if not file.exists() or file.read_text() != text:
        replace(file, text)


assert {each.provider for each in SHORT_CODES} == set(MOBILE_MONEY)
