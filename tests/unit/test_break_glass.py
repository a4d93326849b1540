"""Break-glass: what a sealed key's token can give, what it needs, and that the key stays sealed."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from prometheus_client import REGISTRY
from pydantic import ValidationError

from baraza.system import sealed_key
from baraza.system.client import TokenFile
from baraza.system.sealed_key import Sealed
from baraza.terminal import Refusal
from chassis.http.auth import InvalidToken
from chassis.http.issuers import Issuers
from chassis.http.people import person
from chassis.http.problem import Problem
from chassis.settings import BREAK_GLASS_ISSUER, TrustedIssuer
from saga_tracker.http.applying import is_same_person
from stack import issuers
from stack.errors import InvalidSettings
from support.command_line import Case, CommandLine
from support.two_issuers import STAFF

AUDIENCE, REASON = issuers.AUDIENCE, "the provider is away, and 300 orders are parked"


@pytest.fixture(scope="module")
def sealed() -> Sealed:
    return sealed_key.seal()


def trusting(*keys: Sealed) -> Issuers:
    return Issuers((STAFF, sealed_key.issuer_of([each.public for each in keys], AUDIENCE)))


def minted(sealed: Sealed, *, lifespan: timedelta = timedelta(minutes=10), at: datetime | None = None) -> str:
    key = sealed_key.opened(sealed.pem, sealed.passphrase)
    now = at or datetime.now(UTC)
    return sealed_key.token(key, audience=AUDIENCE, by="opal", reason=REASON, now=now, lifespan=lifespan)


def forged(sealed: Sealed, **changes: Any) -> str:
    """Return a token that a person who has opened the key signs without this program."""
    claims = {**jwt.decode(minted(sealed), options={"verify_signature": False}), **changes}
    key = sealed_key.opened(sealed.pem, sealed.passphrase)
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(kept, key, "ES256", headers={"kid": sealed.public["kid"]})


def test_a_token_of_break_glass_is_an_operators_and_the_log_names_how_it_came_about(sealed: Sealed) -> None:
    before_s = datetime.now(UTC).timestamp()
    caller = trusting(sealed).verify(minted(sealed))
    assert (caller.actor, set(caller.roles)) == (f"{BREAK_GLASS_ISSUER}|opal", {"operator", "support"})
    assert caller.break_glass is not None
    assert caller.break_glass.reason == REASON
    shown = REGISTRY.get_sample_value("baraza_break_glass_until_seconds")
    assert shown == caller.break_glass.until.timestamp()
    assert before_s + 590 < shown < before_s + 700


def test_it_is_accepted_while_no_identity_provider_answers(sealed: Sealed) -> None:
    caller = asyncio.run(trusting(sealed).authenticate(minted(sealed)))
    assert "operator" in caller.roles, "the keys of staff's issuer are at an address where nothing listens"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"reason": None}, "reason"),
        ({"reason": ""}, "reason"),
        ({"reason": "   "}, "reason"),
        ({"reason": "x" * 501}, "reason"),
        ({"jti": None}, "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": 7}, "InvalidJTIError"),
        ({"exp": 2**32}, "1800 s at most"),
        ({"aud": "another"}, "InvalidAudienceError"),
    ],
    ids=str,
)
def test_one_without_a_reason_or_for_longer_is_refused_although_the_key_signed_it(
    sealed: Sealed, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidToken, match=why):
        trusting(sealed).verify(forged(sealed, **changes))


def test_it_cannot_give_more_whatever_it_claims(sealed: Sealed) -> None:
    claimed = [*issuers.STAFF_ROLES, "customer", "merchant"]
    assert trusting(sealed).verify(forged(sealed, roles=claimed)).roles == {"operator", "support"}


def test_an_expired_one_and_one_of_another_key_are_refused(sealed: Sealed) -> None:
    with pytest.raises(InvalidToken, match="expired"):
        trusting(sealed).verify(minted(sealed, at=datetime.now(UTC) - timedelta(hours=1)))
    with pytest.raises(InvalidToken, match="does not publish"):
        trusting(sealed).verify(minted(sealed_key.seal()))


def test_without_the_entry_there_is_no_break_glass(sealed: Sealed) -> None:
    with pytest.raises(InvalidToken, match="not trusted"):
        Issuers((STAFF,)).verify(minted(sealed))


def test_while_a_key_is_replaced_both_count_and_then_the_new_one_alone(sealed: Sealed) -> None:
    new = sealed_key.seal()
    for each in (sealed, new):
        assert trusting(new, sealed).verify(minted(each)).subject == "opal"
    with pytest.raises(InvalidToken):
        trusting(new).verify(minted(sealed))


@pytest.mark.parametrize("lifespan", [timedelta(0), timedelta(minutes=31)])
def test_no_token_is_made_that_would_be_refused(sealed: Sealed, lifespan: timedelta) -> None:
    with pytest.raises(ValueError, match="1800 s"):
        minted(sealed, lifespan=lifespan)


def test_the_key_is_encrypted_and_opens_with_its_passphrase_alone(sealed: Sealed) -> None:
    assert sealed.pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    with pytest.raises(TypeError):
        load_pem_private_key(sealed.pem, None)
    with pytest.raises(Refusal, match="does not open"):
        sealed_key.opened(sealed.pem, "guessed")
    assert "d" not in sealed.public


@pytest.mark.parametrize(
    "changes",
    [
        {"may_be": ("operator", "approver")},
        {"may_be": ("customer",)},
        {"always": ("operator",)},
        {"subject_alone": True},
        {"roles": {"root": "operator"}},
        {"jwks": None, "jwks_url": "http://127.0.0.1:1/keys"},
        {"jwks_url": "http://127.0.0.1:1/keys"},
        {"jwks": None},
    ],
    ids=str,
)
def test_its_entry_gives_no_role_that_decides_and_has_its_keys_in_it(sealed: Sealed, changes: dict[str, Any]) -> None:
    entry = sealed_key.issuer_of([sealed.public], AUDIENCE)
    with pytest.raises(ValidationError):
        TrustedIssuer(**{**entry.model_dump(), **changes})


def test_an_entry_with_a_private_key_or_without_any_is_refused_at_the_start(sealed: Sealed) -> None:
    with pytest.raises(ValidationError, match="private key"):
        sealed_key.issuer_of([{**sealed.public, "d": "secret"}], AUDIENCE)
    with pytest.raises(ValueError, match="has no key of ours"):
        Issuers((sealed_key.issuer_of([], AUDIENCE),))


def test_no_decision_of_two_persons_counts_it_as_one(sealed: Sealed) -> None:
    caller = trusting(sealed).verify(minted(sealed))
    with pytest.raises(Problem) as refused:
        person(caller)
    assert refused.value.status == 403
    assert is_same_person(caller.actor, "opal.okafor"), "whose name was typed is not known"
    assert not is_same_person("ade.approver", "opal.okafor")
    assert person(dataclasses.replace(caller, break_glass=None)) == caller.actor


def run(command_line: CommandLine, *arguments: str, **environment: str) -> Any:
    return command_line.run(Case(arguments=["break-glass", *arguments], environment=environment))


def test_the_command_seals_a_key_and_writes_the_entry_that_a_stack_reads(
    command_line: CommandLine, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.pem", tmp_path / "second.pem"
    made = run(command_line, "seal", str(first), "--json")
    assert made.status == 0, made.stderr
    found = json.loads(made.stdout)
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    assert found["passphrase"] not in first.read_text()
    sealed_key.opened(first.read_bytes(), found["passphrase"])
    (entry,) = issuers.sealed(Path(found["entry"]))
    assert (entry.issuer, set(entry.may_be)) == (BREAK_GLASS_ISSUER, {"operator", "support"})

    replaced = run(command_line, "seal", str(second), "--beside", found["entry"], "--json")
    (both,) = issuers.sealed(Path(json.loads(replaced.stdout)["entry"]))
    assert entry.jwks is not None
    assert both.jwks is not None
    assert [each["kid"] for each in both.jwks["keys"]][1:] == [each["kid"] for each in entry.jwks["keys"]]
    again = run(command_line, "seal", str(first))
    assert (again.status, again.stdout) == (1, "")
    assert sealed_key.opened(first.read_bytes(), found["passphrase"]), "no key is written over"


def test_a_damaged_entry_ends_the_start_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / issuers.BREAK_GLASS_FILE
    assert issuers.sealed(file) == ()
    file.write_text('{"issuer": "baraza-break-glass"}')
    with pytest.raises(InvalidSettings, match="break-glass seal"):
        issuers.sealed(file)


@pytest.mark.parametrize("arguments", [("--by", "", "--reason", "r"), ("--by", "opal", "--reason", " ")], ids=str)
def test_who_and_why_are_mandatory(command_line: CommandLine, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = run(command_line, "open", str(tmp_path / "key"), *arguments)
    assert ended.status == 2, ended.stderr


def test_every_call_has_the_token_in_the_file_as_long_as_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(Refusal, match="cannot be read"):
        TokenFile(file).header()
    file.write_text("  \n")
    with pytest.raises(Refusal, match="holds no token"):
        TokenFile(file).header()
    file.write_text("a.b.c\n")
    assert TokenFile(file).header() == "Bearer a.b.c"
