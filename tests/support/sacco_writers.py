"""A process that handles a SACCO's messages in the ledger, one transaction each, and that can be killed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.process import BaseProcess

from sqlalchemy import create_engine

from chassis.postgres.database import prepare
from messages.contract import Message
from support.ledger_steps import handle
from support.ledger_writers import NAME, url_of
from support.ledgers import LedgerUnderTest, ledger_on

SPAWN = multiprocessing.get_context("spawn")


def started(ledger: LedgerUnderTest, messages: Sequence[Message]) -> BaseProcess:
    """Start a process that handles these messages in their order."""
    process = SPAWN.Process(target=_handle, args=(url_of(ledger.engine), list(messages)))
    process.start()
    return process


def _handle(url: str, messages: Sequence[Message]) -> None:
    engine = prepare(create_engine(url, connect_args={"application_name": NAME}))
    ledger = ledger_on(engine)
    for message in messages:
        handle(ledger, message)
    engine.dispose()
