"""How values are shown: states, times, amounts, ids, and the sentence about what a saga waits for. Pure.

Times are shown in UTC; a page's script shows them in the browser's zone where the user wants that. Nothing here is
marked as safe that came from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from chassis.values.money import shown

Json = Mapping[str, Any]

STATES: Mapping[str, tuple[str, str]] = {
    "PENDING": ("Under way", "going"),
    "CONFIRMED": ("Confirmed", "done"),
    "CANCELLED_COMPENSATED": ("Cancelled, all undone", "undone"),
    "NEEDS_REVIEW": ("Parked, needs a person", "parked"),
    "IN_DOUBT": ("In doubt, outcome comes later", "doubt"),
    "INCIDENT": ("Contradicted, people settle it", "parked"),
}
"""The words for a state and its look; the look never stands alone."""
OUTCOMES: Mapping[str, tuple[str, str]] = {
    "waiting": ("runs now", "going"),
    "awaited": ("outcome comes later", "doubt"),
    "ran": ("ran", "done"),
    "rejected": ("refused", "failed"),
    "compensated": ("undone", "undone"),
    "not_run": ("never ran", "none"),
}
CAUSES: Mapping[str, str] = {
    "REJECTED": "a step was refused",
    "CANCELLED": "it was cancelled",
    "EXHAUSTED": "a step failed at its last attempt",
    "TIMED_OUT": "a step did not answer in time",
}
ENDED = ("CONFIRMED", "CANCELLED_COMPENSATED")
MASK = "•••"
MINUTE, HOUR, DAY = 60, 3_600, 86_400
UNITS = ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "min"), (MINUTE, "min", 1, "s"))


def moment(text: str | None) -> datetime | None:
    """Return an API's time in UTC; None for none, and for a text that is no time."""
    if not text:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def when(text: str | None, *, precisely: bool = False) -> Markup:
    """Return an element with a time in UTC, which the page's script may show in the browser's zone."""
    at = moment(text)
    if at is None:
        return Markup("–")
    exact = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    shown = f"{at:%Y-%m-%d %H:%M:%S}{f'.{at.microsecond // 1000:03}' if precisely else ''} UTC"
    return Markup('<time datetime="{}">{}</time>').format(exact, shown)


def lasting(seconds: float) -> str:
    """Return a duration in at most two units."""
    if seconds < MINUTE:
        return f"{seconds:.3f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = int(seconds)
    for unit, name, smaller, smaller_name in UNITS:
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name} {rest} {smaller_name}" if rest else f"{whole // unit} {name}"
    return f"{whole} s"


def since(text: str | None, now: datetime) -> str:
    """Return how long ago a time is."""
    at = moment(text)
    return "–" if at is None else lasting(max(0.0, (now - at).total_seconds()))


def between(first: str | None, last: str | None) -> str:
    """Return the duration between two times."""
    begin, end = moment(first), moment(last)
    return "" if begin is None or end is None else lasting(max(0.0, (end - begin).total_seconds()))


def money(minor: Any, currency: str | None) -> str:
    """Return an amount of minor units with its currency; a dash where there is none."""
    return shown(minor, currency) if isinstance(minor, int) and currency else "–"


def amount(minor: str | None, currency: str | None) -> str:
    """Return an amount that an API gives as a text of minor units, with its currency; a dash where there is none."""
    return "–" if minor is None else money(int(minor), currency)


def masked(text: str | None) -> str:
    """Return whom a saga is about without showing it: enough to recognise it, too little to use it."""
    if not text:
        return "–"
    return MASK if len(text) < 6 else f"{text[:2]}{MASK}{text[-2:]}"


def state_words(state: str) -> str:
    """Return a state in words; an unknown one as it is."""
    return STATES.get(state, (state, ""))[0]


def state_look(state: str) -> str:
    """Return the class of a state's look."""
    return STATES.get(state, ("", "none"))[1]


def outcome_words(outcome: str) -> str:
    """Return a step's outcome in words."""
    return OUTCOMES.get(outcome, (outcome, ""))[0]


def outcome_look(outcome: str) -> str:
    """Return the class of a step's look."""
    return OUTCOMES.get(outcome, ("", "none"))[1]


def why_stopped(saga: Json) -> str:
    """Return why a saga was stopped, with the reason that its service gave."""
    cause, reason = CAUSES.get(saga.get("cause") or "", "it was stopped"), saga.get("reason")
    return f"{cause} ({reason})" if reason else cause


def sentence(saga: Json, steps: Sequence[Json] = ()) -> Markup:
    """Return the one sentence that says what a saga waits for and until when, or how it ended."""
    state = saga["state"]
    if state == "CONFIRMED":
        return Markup("Every step ran. It took {}.").format(between(saga["started_at"], saga["finished_at"]) or "–")
    if state == "CANCELLED_COMPENSATED":
        took = between(saga["started_at"], saga["finished_at"]) or "–"
        return Markup("It ended after {}: {}. What had run was undone.").format(took, why_stopped(saga))
    if state == "NEEDS_REVIEW":
        return Markup("It is parked at {} since {} and waits for a person: {}.").format(
            saga["step"], when(saga["parked_at"] or saga["updated_at"]), (saga.get("reason") or "no reason").rstrip(".")
        )
    if state == "INCIDENT":
        return Markup("A provider contradicted itself since {}, and people settle it: {}.").format(
            when(saga["contradicted_at"]), (saga.get("reason") or "no reason").rstrip(".")
        )
    return _waiting(saga, steps)


def _waiting(saga: Json, steps: Sequence[Json]) -> Markup:
    until = Markup(" until {}").format(when(saga["deadline_at"])) if saga.get("deadline_at") else Markup("")
    if saga["state"] == "IN_DOUBT":
        return Markup("It is stopped, because {}. It waits for the outcome of {}, open since {}{}.").format(
            why_stopped(saga), saga["step"], when(saga["awaits_since"]), until
        )
    if saga["phase"] == "FENCING":
        return Markup(
            "It is being stopped, because {}. It waits for every service to confirm that no step runs{}."
        ).format(why_stopped(saga), until)
    if saga["phase"] == "COMPENSATING":
        return Markup("It is being undone, because {}. It waits for the undo of {}{}.").format(
            why_stopped(saga), saga["step"], until
        )
    if saga.get("awaits_since"):
        return Markup("It waits for the outcome of {}, which comes later; open since {}{}.").format(
            saga["step"], when(saga["awaits_since"]), until
        )
    service = next((step["service"] for step in steps if step["name"] == saga["step"]), "")
    place = Markup(" in {}").format(service) if service else Markup("")
    then = Markup("; then it is stopped and undone") if until else Markup("")
    return Markup("It waits for {}{}{}{}.").format(saga["step"], place, until, then)


def freshness(found: Json | None) -> Markup:
    """Return the sentence about the time up to which a page is complete."""
    if not found or not found.get("as_of"):
        return Markup("The tracker has not caught up yet; this may be incomplete.")
    return Markup("Everything before {} is shown.").format(when(found["as_of"], precisely=True))


def is_stale(found: Json | None) -> bool:
    """Return whether a page is so far behind that it must say so."""
    return bool(found and (found.get("lag_s") or 0) > MINUTE)


def short(text: str | None, length: int = 80) -> str:
    """Return a text of at most this length."""
    if not text:
        return ""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def readable(name: str | None) -> str:
    """Return a name of the code as words."""
    return (name or "").replace("_", " ")


FILTERS: Mapping[str, Callable[..., Any]] = {
    "when": when, "since": since, "lasting": lasting, "between": between, "money": money, "amount": amount,
    "masked": masked,
    "state_words": state_words, "state_look": state_look, "outcome_words": outcome_words,
    "outcome_look": outcome_look, "sentence": sentence, "freshness": freshness, "is_stale": is_stale, "short": short,
    "readable": readable, "why_stopped": why_stopped,
}  # fmt: skip
"""The templates' filters."""
