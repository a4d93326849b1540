"""What is known of a call that changes something, where the answer or the output of a command is lost.

A person who sees an error repeats the command: the error states whether that changes something once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from baraza.streams import Unwritable
from baraza.terminal import Refusal, notify

SERVER_ERROR = 500
UNDECIDED = frozenset({408, 409})
"""A timeout, and a call under the same key that is still under way."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What is known of the call, in one sentence."""

    text: str


@contextmanager
def repeatable(unknown: str, again: str) -> Iterator[Outcome]:
    """Where the block ends early, add the outcome, and ``again``, which states how the call is repeated safely.

    The outcome is ``unknown`` until the block replaces its text.
    """
    from baraza.system.client import NotUnderstood, Refused, Unreachable

    outcome = Outcome(text=unknown)
    try:
        yield outcome
    except (Unreachable, NotUnderstood, Unwritable) as error:
        raise Refusal(f"{error}\n{outcome.text} {again}") from error
    except Refused as error:
        if error.status < SERVER_ERROR and error.status not in UNDECIDED:
            raise
        raise Refusal(f"{error}\n{outcome.text} {again}") from error
    except (KeyboardInterrupt, SystemExit):
        notify(f"{outcome.text} {again}")
        raise


@contextmanager
def done(what: str) -> Iterator[None]:
    """Write the result of a call in the block: where that fails, the error states what was done all the same."""
    try:
        yield
    except Unwritable as error:
        raise Refusal(f"{error}\n{what}") from error
