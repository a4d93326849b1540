"""Any request to the ledger's API is answered as its description says, or with a clear refusal.

The same checks as in ``tests/fuzz``, on the ledger alone, with accounts, transfers and postings that exist.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import uvicorn

from chassis.http.timed_requests import TimedProtocol
from chassis.postgres.transient import utc_now
from chassis.process.service import Dependencies
from chassis.wire.codec import Codec
from chassis.wire.envelope import new_id
from ledger import api
from ledger.model.transfers import Entry, Origin
from ledger.store.manual_postings import Proposal, propose
from proof.schemas import LocalRegistry
from stack import Stack
from support.issuer import token, verifying
from support.ledgers import LedgerUnderTest, hold, member, reference, scratch_ledger, transfer
from support.waiting import until

EXAMPLES_MAX = 15
LASTS_MAX_S = 100
EXPECTED = '[checks.negative_data_rejection]\nexpected-statuses = ["4xx"]'
ROLES = ("finance", "bookkeeper", "support")


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A served API, and values of its parameters that exist."""

    url: str
    known: dict[str, str]


@pytest.fixture(scope="module")
def described(infrastructure: Stack) -> Iterator[Described]:
    with scratch_ledger(infrastructure) as ledger, verifying() as verifier:
        unused = cast(Any, None)
        codec = Codec(LocalRegistry())
        dependencies = Dependencies(settings=unused, engine=ledger.engine, codec=codec, verifier=verifier)
        config = uvicorn.Config(
            api.application(dependencies), http=TimedProtocol, ws="none", port=0, log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until(lambda: server.started, "the API is served")
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield Described(url=f"http://127.0.0.1:{port}", known=_existing(ledger))
        finally:
            server.should_exit = True
            thread.join()


def _existing(ledger: LedgerUnderTest) -> dict[str, str]:
    """Book something of each kind, and return the values of parameters that name it."""
    path, saga_id = member(reference()), new_id()
    ledger.fund(path, 1_000)
    booked = transfer(path, "sacco:fees:KES", 5, origin=Origin(saga_id=saga_id, step="a_step"))
    ledger.book(booked, hold(path, "sacco:fees:KES", 5))
    now = utc_now()
    with ledger.engine.begin() as tx:
        proposal = Proposal(
            posting_id=saga_id,
            key="a key",
            entries=[Entry(*each) for each in (("sacco:bank:KES", 5, "KES"), ("sacco:fees:KES", -5, "KES"))],
            effective_at=now,
            reason="A reason.",
            proposed_by="someone else",
            proposed_at=now,
        )
        propose(proposal, tx)
    return {"account": path, "reference": booked.reference, "saga_id": saga_id, "posting_id": saga_id}


@pytest.mark.parametrize("known", [True, False], ids=["known values", "any values"])
def test_the_api_does_what_its_description_says(
    described: Described, known: bool, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    configured = [EXPECTED]
    if known:
        configured += ["[parameters]", *(f'{name} = "{value}"' for name, value in described.known.items())]
    (tmp_path / "schemathesis.toml").write_text("\n".join(configured))
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{described.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {token('ann', *ROLES)}", "--checks", "all"),
        *("--exclude-checks", "positive_data_acceptance", "--no-color"),
        *("--max-examples", str(EXAMPLES_MAX), "--seed", str(pytestconfig.getoption("hypothesis_seed"))),
        *(() if known else ("--include-path-regex", r"\{")),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LASTS_MAX_S, check=False)
    assert run.returncode == 0, run.stdout
