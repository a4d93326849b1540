"""The states of a step in its service. Pure: what decides about an outcome needs them and no database."""

from __future__ import annotations

import enum


class EffectState(enum.StrEnum):
    """The state of a step in its service."""

    STARTED = "STARTED"
    """A call to a provider may be under way; its outcome is not known yet."""
    SENT = "SENT"
    """An awaited step's call arrived at the provider; its outcome comes later (:mod:`chassis.saga.awaited`)."""
    UNSURE = "UNSURE"
    """It is not known whether an awaited step's call arrived."""
    PAUSED = "PAUSED"
    """Every attempt of an awaited step is proven to have failed; the next one waits until it may be made."""
    DONE = "DONE"
    REJECTED = "REJECTED"
    FENCED = "FENCED"
    """It had not run, and never will."""
    UNDONE = "UNDONE"
