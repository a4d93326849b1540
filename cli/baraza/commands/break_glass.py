"""``baraza break-glass``: act while the identity provider is away, by a key that lies sealed until then.

docs/operations.md has the runbook, and how the key is replaced.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baraza.commands.options import Commands, Home, Json, check_reason
from baraza.system import running
from baraza.system.running import TRACKER_API
from baraza.terminal import Refusal, UsageRefusal, notify, put, put_json

if TYPE_CHECKING:
    from chassis.settings import TrustedIssuer

MINUTES_MAX = 30
NAME_LENGTH_MAX = 64
PRIVATE = 0o600

app = Commands(no_args_is_help=True, help="Act while the identity provider is away, by a sealed key.")

KeyFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the sealed key.", show_default=False)]
Beside = Annotated[
    Path | None,
    typer.Option(
        "--beside",
        metavar="ENTRY",
        help="To replace a key: its entry, whose keys go on counting beside the new one.",
        show_default=False,
    ),
]
By = Annotated[str, typer.Option("--by", metavar="NAME", help="Who opens it; the log names you.", show_default=False)]
Reason = Annotated[str, typer.Option("--reason", help="The reason; it is kept for ever.", show_default=False)]
Minutes = Annotated[
    int, typer.Option("--minutes", min=1, max=MINUTES_MAX, metavar="NUMBER", help="How long the token is good for.")
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file", metavar="FILE", help="Where the passphrase is; otherwise type it.", show_default=False
    ),
]
TokenFile = Annotated[
    Path, typer.Option("--token-file", metavar="FILE", help="Where the token is written; only you can read it.")
]


@app.command("seal")
def seal(file: KeyFile, beside: Beside = None, as_json: Json = False) -> None:
    """Make a key, write it encrypted, and show the passphrase that opens it: once, and never again.

    Beside it, in FILE.issuer.json, is its public part: the entry of BARAZA_ISSUERS for every service.
    """
    from baraza.system import sealed_key
    from stack.issuers import AUDIENCE

    before = [] if beside is None else _keys_in(beside)
    sealed = sealed_key.seal()
    entry = sealed_key.issuer_of([sealed.public, *before], AUDIENCE)
    public = entry_file(file)
    _write(public, json.dumps(entry.model_dump(mode="json", exclude_defaults=True), indent=2) + "\n")
    try:
        _write(file, sealed.pem.decode())
    except BaseException:
        public.unlink()
        raise
    if as_json:
        put_json({"key": str(file), "entry": str(public), "passphrase": sealed.passphrase})
        return
    put(sealed.passphrase)
    notify(f"That is the passphrase of {file}, shown once. Keep both apart, each where two persons can reach it.")
    notify(f"Add the content of {public} to BARAZA_ISSUERS of every service, and restart them.")


@app.command("open")
def open_key(
    file: KeyFile,
    by: By,
    reason: Reason,
    minutes: Minutes = 15,
    passphrase_file: PassphraseFile = None,
    token_file: TokenFile = Path("break-glass.token"),
    home: Home = None,
) -> None:
    """Issue a token for some minutes, which the tracker's log names before you have it. It raises an alert.

    With BARAZA_TOKEN_FILE every other command acts by it.
    """
    from baraza.system import sealed_key
    from stack.issuers import AUDIENCE

    check_reason(reason)
    if not by.strip() or len(by) > NAME_LENGTH_MAX or not by.isprintable():
        raise UsageRefusal(f"--by is {by!r}; give your name, of up to {NAME_LENGTH_MAX} characters.")
    key = sealed_key.opened(file.read_bytes(), _passphrase(passphrase_file))
    now, lifespan = datetime.now(UTC), timedelta(minutes=minutes)
    token = sealed_key.token(key, audience=AUDIENCE, by=by.strip(), reason=reason, now=now, lifespan=lifespan)
    _write(token_file, f"{token}\n")
    try:
        _use(token_file, home)
    except BaseException:
        token_file.unlink()
        raise
    put(f"export {running.TOKEN_FILE}={token_file.absolute()}")
    notify(f"Good until {now + lifespan:%H:%M:%S} UTC, as operator and support. Its use is logged and alerts.")
    notify(f"Delete {token_file} when you are done, and replace the key: docs/operations.md#breakglassused")


def entry_file(key: Path) -> Path:
    """Return the file with the public part of a sealed key."""
    return key.with_name(f"{key.name}.issuer.json")


def _use(token_file: Path, home: Path | None) -> None:
    """Use the token once at the tracker, which logs it. Raises Refusal where it does not accept or log it."""
    with running.find(home).api_by(TRACKER_API, token_file) as tracker:
        tracker.get("/v1/acts", {"limit": 1})


def _passphrase(file: Path | None) -> str:
    if file is not None:
        return file.read_text().strip()
    return str(typer.prompt("Passphrase", hide_input=True, err=True)).strip()


def _keys_in(file: Path) -> list[dict[str, str]]:
    """Return the public keys of an entry. Raises Refusal where it is none of break-glass."""
    from pydantic import ValidationError

    from chassis.settings import BREAK_GLASS_ISSUER, TrustedIssuer

    try:
        entry: TrustedIssuer = TrustedIssuer.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise Refusal(f"{file} is no entry of BARAZA_ISSUERS; take the one that was written beside the key.") from error
    if entry.issuer != BREAK_GLASS_ISSUER or entry.jwks is None:
        raise Refusal(f"{file} is the entry of another issuer; take the one that was written beside the key.")
    return [dict(each) for each in entry.jwks["keys"]]


def _write(file: Path, text: str) -> None:
    """Write a new file that only its owner can read. Raises FileExistsError."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "w") as opened:
        opened.write(text)
