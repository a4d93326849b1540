"""Mobile money's tables and every statement on them; each takes a whole batch."""

from __future__ import annotations

from chassis.saga.schema import service_metadata

metadata = service_metadata(has_awaited_steps=True)
