"""Whether what a callback says agrees with what was requested. Pure."""

from __future__ import annotations

from mobile_money import readings
from mobile_money.known import KnownPrompt, KnownRequest
from mobile_money.reports import End, Payment
from mobile_money.short_codes import ShortCode


def differs(report: Payment, prompt: KnownPrompt) -> str:
    """Return in what a payment differs from the prompt that it names; empty where it agrees."""
    if report.amount_minor != prompt.amount_minor:
        return f"its amount is {report.amount_minor}, that of its prompt {prompt.amount_minor}"
    try:
        is_same = report.payer is None or readings.phone_of(report.payer) == prompt.phone
    except ValueError:
        is_same = True  # a mask or a hash says nothing
    return "" if is_same else "its phone is another one than its prompt's"


def disagrees(report: End, request: KnownRequest, short_code: ShortCode) -> str:
    """Return in what a success differs from what was requested; empty where it agrees."""
    if request.short_code != short_code.short_code:
        return f"its request is of the short code {request.short_code}"
    if report.amount_minor is not None and report.amount_minor != request.amount_minor:
        return f"its amount is {report.amount_minor}, that of its request {request.amount_minor}"
    if report.phone is not None and request.phone is not None and report.phone != request.phone:
        return "its phone is another one than its request's"
    return ""
