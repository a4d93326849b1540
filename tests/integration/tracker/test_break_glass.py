"""The drill: the identity provider is away, and an operator acts by the sealed key, as the runbook has it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine

from chassis.postgres.database import prepare
from chassis.settings import BREAK_GLASS_ISSUER
from chassis.wire.envelope import new_id
from stack import issuers
from stack.lifecycle import up
from stack.settings import from_environment
from support.registries import codec_of
from support.tracker_peers import ORDER, TrackerPeers, successes, until

COMMAND_TIMEOUT_S = 120
LONG = "100"
"""What stretches a saga's deadlines: it must still be pending after all commands of the drill."""
REASON = "The identity provider is away since 09:12, incident 4711"
UNTIL = re.compile(r"^baraza_break_glass_until_seconds ([0-9.e+]+)$", re.MULTILINE)
pytestmark = [
    pytest.mark.timeout(600),
    # The registry's client, a library, leaves its connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def baraza(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person does."""
    own = {name: value for name, value in os.environ.items() if name != "BARAZA_TOKEN_FILE"}
    return subprocess.run(
        [sys.executable, "-m", "baraza", *arguments],
        env={**own, **environment},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A sealed key in its file, its entry, and the passphrase in a file."""
    folder = tmp_path_factory.mktemp("sealed")
    made = baraza("break-glass", "seal", str(folder / "key.pem"), "--json")
    assert made.returncode == 0, made.stderr
    found: dict[str, str] = json.loads(made.stdout)
    (folder / "passphrase").write_text(found.pop("passphrase"))
    return {**found, "passphrase": str(folder / "passphrase")}


@pytest.fixture(scope="module")
def peers(key: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackerPeers]:
    """A tracker that trusts the sealed key besides both issuers."""
    home = tmp_path_factory.mktemp("stack")
    (home / issuers.BREAK_GLASS_FILE).write_text(Path(key["entry"]).read_text())
    environment = {"saga-tracker": {"BARAZA_TIMEOUT_FACTOR": LONG}}
    stack = up(from_environment(home=home, only=("saga-tracker", "saga-tracker-api"), environment=environment))
    engine = prepare(create_engine(stack.database_url("saga-tracker").replace("postgresql:", "postgresql+psycopg:")))
    try:
        with httpx.Client(timeout=10, trust_env=False) as http, codec_of(stack) as codec:
            found = TrackerPeers(stack=stack, codec=codec, engine=engine, http=http)
            yield found
            found.close()
    finally:
        engine.dispose()
        stack.down()


def until_s(peers: TrackerPeers) -> float:
    """Return what the alert looks at, as Prometheus reads it."""
    found = UNTIL.search(peers.http.get(f"{peers.tracker_api}/metrics").text)
    assert found is not None
    return float(found[1])


def acts(peers: TrackerPeers, authorization: dict[str, str], **conditions: str) -> list[dict[str, Any]]:
    answer = peers.http.get(f"{peers.tracker_api}/v1/acts", params=conditions, headers=authorization)
    found: list[dict[str, Any]] = answer.json()["acts"]
    return found


def test_an_operator_cancels_a_saga_while_the_identity_provider_is_away(
    peers: TrackerPeers, key: dict[str, str], tmp_path: Path
) -> None:
    home, saga_id, token_file = str(peers.stack.home), new_id(), tmp_path / "token"
    events = successes(saga_id)
    peers.publish(*events[:2])
    peers.has_recorded(*events[:2])
    support = peers.token("support")
    assert until_s(peers) == 0
    assert acts(peers, support) == []
    peers.stack.stop("issuer")

    # 1. Nothing goes the usual way.
    refused = baraza("sagas", "cancel", saga_id, "--reason", REASON, "--home", home)
    assert refused.returncode == 1
    assert "issuer" in refused.stderr
    # 2. The key does not open without its passphrase, and then there is no token.
    (tmp_path / "wrong").write_text("guessed")
    opening = ["break-glass", "open", key["key"], "--by", "opal.okafor", "--reason", REASON, "--minutes", "5",
               "--token-file", str(token_file), "--home", home]  # fmt: skip
    assert baraza(*opening, "--passphrase-file", str(tmp_path / "wrong")).returncode == 1
    assert not token_file.exists()
    # 3. It is opened: who, why and until when are in the log before anything is done.
    opened = baraza(*opening, "--passphrase-file", key["passphrase"])
    assert opened.returncode == 0, opened.stderr
    assert opened.stdout.strip() == f"export BARAZA_TOKEN_FILE={token_file}"
    glass = {"Authorization": f"Bearer {token_file.read_text().strip()}"}
    (entry,) = acts(peers, glass)
    actor = f"{BREAK_GLASS_ISSUER}|opal.okafor"
    assert (entry["act"], entry["actor"], entry["reason"]) == ("BREAK_GLASS", actor, REASON)
    assert re.fullmatch(r"as operator and support until \S+\+00:00", entry["detail"])
    # 4. What the alert looks at says until when.
    assert time.time() + 200 < until_s(peers) < time.time() + 301
    # 5. The act has effect, and is named as what it is.
    done = baraza("sagas", "cancel", saga_id, "--reason", REASON, "--home", home, BARAZA_TOKEN_FILE=str(token_file))
    assert done.returncode == 0, done.stderr
    peers.awaits(saga_id, *["FenceSaga"] * len(ORDER.services))
    (on_timeline,) = [each for each in peers.timeline(saga_id) if each.kind == "act"]
    assert on_timeline.detail == f"{actor}: {REASON}"
    cancelled = until(lambda: acts(peers, glass, saga_id=saga_id), "the cancellation is logged")
    assert {each["actor"] for each in cancelled} == {actor}
    assert len(acts(peers, glass, act="BREAK_GLASS")) == 1, "however often it is used, it is logged once"
    # 6. It approves nothing.
    approval = f"{peers.tracker_api}/v1/plans/{new_id()}/approve"
    assert peers.http.post(approval, json={"reason": REASON}, headers=glass).status_code == 403


def test_a_token_whose_use_cannot_be_logged_is_not_accepted(
    peers: TrackerPeers, key: dict[str, str], tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    peers.stack.stop("postgres")
    try:
        refused = baraza(
            "break-glass", "open", key["key"], "--by", "opal.okafor", "--reason", REASON,
            "--passphrase-file", key["passphrase"], "--token-file", str(token_file), "--home", str(peers.stack.home),
        )  # fmt: skip
    finally:
        peers.stack.start("postgres")
    assert refused.returncode == 1
    assert "saga-tracker-api refused" in refused.stderr
    assert not token_file.exists()
