"""Adyen's webhooks: one item each, with a signature of its own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

from simulators.accounts import Account
from simulators.gateway_records import GatewayRecords
from simulators.hooks import Event, tell
from simulators.records import JsonObject, Record


def notify(
    records: GatewayRecords,
    account: Account,
    code: str,
    subject: Record,
    *,
    psp: str,
    original: str | None,
    now: float,
    seed: int,
    is_success: bool = True,
    reason: str = "",
    reference: str | None = None,
) -> None:
    """Tell an account what came out. ``reference`` is that of the modification, where it has one of its own."""
    item: JsonObject = {
        "amount": {"currency": subject.fields["currency"], "value": subject.fields["value"]},
        "eventCode": code,
        "eventDate": datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds"),
        "merchantAccountCode": account.merchant_account,
        "merchantReference": reference or subject.reference,
        "pspReference": psp,
        "reason": reason,
        "success": "true" if is_success else "false",
        "additionalData": {},
    }
    if original is not None:
        item["originalReference"] = original
    body: JsonObject = {
        "live": "true" if account.is_live else "false",
        "notificationItems": [{"NotificationRequestItem": item}],
    }
    told = Event(account=account.name, name=code, reference=subject.reference, object_id=psp, body=body)
    tell(records, told, now=now, seed=seed)


def sign(account: Account, body: JsonObject, _now: float) -> tuple[bytes, dict[str, str]]:
    """Return a webhook's bytes: each item is signed by the account's newest key."""
    signed: Any = deepcopy(body)
    key = bytes.fromhex(account.webhook_secrets[0])
    for each in signed["notificationItems"]:
        item = each["NotificationRequestItem"]
        made = hmac.new(key, text_of(item).encode(), hashlib.sha256).digest()
        item["additionalData"]["hmacSignature"] = base64.b64encode(made).decode()
    return json.dumps(signed).encode(), {}


def text_of(item: dict[str, Any]) -> str:
    """Return what the signature of an item covers. Nothing is escaped."""
    names = ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")
    amount = item["amount"]
    parts = [*(item.get(name) or "" for name in names), amount["value"], amount["currency"]]
    return ":".join(map(str, [*parts, item["eventCode"], item["success"]]))
