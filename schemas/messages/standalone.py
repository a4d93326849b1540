"""The messages that belong to no saga, and the topic of each. Anyone outside may keep them; no service reads them."""

from __future__ import annotations

from collections.abc import Mapping

from messages.contract import Message
from messages.ledger import DayClosed
from messages.notifier import MerchantEvent
from messages.reconciliation import DivergenceFound

STANDALONE: Mapping[str, type[Message]] = {
    "ledger.days": DayClosed,
    "notification.events": MerchantEvent,
    "reconciliation.divergences": DivergenceFound,
}
