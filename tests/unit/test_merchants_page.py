"""The example in docs/merchants.md runs, and its tables name every event and no other."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import WebhookVerificationError

from chassis.http.webhook_signing import headers, new_secret
from notifier.domain import EventType, MerchantNotice

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "merchants.md").read_text()


@pytest.fixture
def on_webhook() -> Any:
    """The function in the page's example."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(source, names)
    return names["on_webhook"]


def test_the_example_verifies_acts_once_and_refuses_what_is_not_ours(on_webhook: Any) -> None:
    secret = new_secret()
    notice = MerchantNotice(
        event_id="e1", type=EventType.PAYMENT_CAPTURED, merchant_id="m", is_live=False,
        occurred_at=datetime.now(UTC), data={"payment_id": "7"},
    )  # fmt: skip
    body = notice.body.encode()
    sent = dict(headers([secret], notice.event_id, datetime.now(UTC), body))
    assert on_webhook(secret, sent, body) == ("payment.captured", "7")
    assert on_webhook(secret, sent, body) is None
    with pytest.raises(WebhookVerificationError):
        on_webhook(new_secret(), sent, body)


def test_every_event_type_is_on_the_page() -> None:
    table = PAGE.partition("### Events")[2].partition("###")[0]
    named = {name for line in table.splitlines() if line.startswith("| `") for name in re.findall(r"`([\w.]+)`", line)}
    assert {each.value for each in EventType} <= named
