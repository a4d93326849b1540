"""Members's handlers."""

from __future__ import annotations

from chassis.saga.steps import Handler

HANDLERS: tuple[Handler, ...] = ()
