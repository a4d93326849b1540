"""A running inbox for callbacks, for tests of routes without a whole process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from chassis.process.callback_inbox import CallbackInbox


@contextmanager
def inbox_of(engine: Engine) -> Iterator[CallbackInbox]:
    """Run an inbox that stores in this database."""
    inbox = CallbackInbox(engine)
    inbox.start()
    try:
        yield inbox
    finally:
        inbox.stop()
