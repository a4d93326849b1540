"""Alarms as Alertmanager's webhook (version 4) reports them, and which sagas one is about. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import AwareDatetime, Field, TypeAdapter, ValidationError

from chassis.values.json_text import compact, parse

FIRING: Final = "firing"
ALERTNAME: Final = "alertname"
SUMMARY, RUNBOOK, CONSOLE = "summary", "runbook", "console"
"""The annotations of our rules: what is the matter, the page with instructions, and the page of the console."""
SHOWN_MAX: Final = 50
"""Alerts of a group that a ticket lists."""
TEXT_MAX: Final = 2_000

Json = Any
Texts = Mapping[str, str]


class BadAlarm(ValueError):
    """A body is no report of Alertmanager's, or of a group that cannot have a ticket. The text says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Alert:
    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: Annotated[AwareDatetime, Field(alias="startsAt")]
    ends_at: Annotated[AwareDatetime, Field(alias="endsAt")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    version: Literal["4"]
    status: Literal["firing", "resolved"]
    alerts: Annotated[list[_Alert], Field(min_length=1)]
    group_labels: Annotated[dict[str, str], Field(alias="groupLabels")]
    truncated_alerts: Annotated[int, Field(alias="truncatedAlerts")] = 0


_REPORT: Final[TypeAdapter[_Report]] = TypeAdapter(_Report)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One alarm as it was reported last.

    ``correlation_id`` is the same one for each report of an alarm. ``pages`` are the addresses within the console that
    its firing alerts name, ``topics`` the topics of their dead letters. ``title`` is one line, ``text`` all the rest.
    """

    correlation_id: str
    name: str
    is_firing: bool
    severity: str
    title: str
    text: str
    runbook: str
    console: str
    pages: tuple[str, ...]
    topics: tuple[str, ...]
    began_at: str

    def concerns(self, saga: Json, letters: Sequence[Json]) -> bool:
        """Return whether a saga is among those that the alarm's page lists, or a letter of it is on its topic."""
        return any(_lists(page, saga) for page in self.pages) or any(
            letter["topic"] in self.topics for letter in letters
        )

    def with_note(self, note: str) -> Alarm:
        """Return the alarm with one more line of text, once however often it is added."""
        return self if self.text.endswith(note) else replace(self, text=f"{self.text}\n{note}")

    def to_json(self) -> str:
        """Return the alarm as it is stored."""
        return compact(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Alarm:
        """Return an alarm as it was stored."""
        stored = json.loads(text)
        return cls(**{**stored, "pages": tuple(stored["pages"]), "topics": tuple(stored["topics"])})


def alarm_of(body: bytes, *, console_url: str, runbooks_url: str) -> Alarm:
    """Return the alarm of a report. Raises BadAlarm.

    Its id follows from the group's labels and the console's address: a report that comes again, to another replica, or
    after a change of Alertmanager's routes, is about the same alarm.
    """
    report = _parsed(body)
    if not report.group_labels.get(ALERTNAME):
        raise BadAlarm("groupLabels has no alertname: add alertname to group_by of the route that leads here.")
    firing = [each for each in report.alerts if each.status == FIRING]
    shown = firing or report.alerts
    pages = tuple(dict.fromkeys(page for each in shown if (page := _page_of(each.annotations))))
    runbook = next((each.annotations[RUNBOOK] for each in shown if each.annotations.get(RUNBOOK)), "")
    runbook = f"{runbooks_url}{runbook}" if runbook and runbooks_url else runbook
    console = f"{console_url}{pages[0] if pages else '/'}"
    name = report.group_labels[ALERTNAME]
    return Alarm(
        correlation_id=_id_of(console_url, report.group_labels),
        name=name,
        is_firing=report.status == FIRING,
        severity=shown[0].labels.get("severity", ""),
        title=f"{name}: {_summary(shown[0])}" + (f" And {len(shown) - 1} more." if len(shown) > 1 else ""),
        text="\n".join(_lines(report, runbook, [f"{console_url}{page}" for page in pages] or [console])),
        runbook=runbook,
        console=console,
        pages=pages,
        topics=tuple(sorted({each.labels["topic"] for each in shown if "topic" in each.labels})),
        began_at=min(each.starts_at for each in shown).astimezone(UTC).isoformat(timespec="seconds"),
    )


def _parsed(body: bytes) -> _Report:
    try:
        return _REPORT.validate_python(parse(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(each) for each in first["loc"]) or "the body"
        raise BadAlarm(f"{where}: {first['msg']}. Send what Alertmanager's webhook of version 4 sends.") from error
    except (ValueError, RecursionError) as error:
        raise BadAlarm("The body is no JSON. Send what Alertmanager's webhook of version 4 sends.") from error


def _id_of(console_url: str, labels: Texts) -> str:
    identity = compact([console_url, sorted(labels.items())])
    return f"baraza-{hashlib.sha256(identity.encode()).hexdigest()[:40]}"


def _summary(alert: _Alert) -> str:
    return " ".join(alert.annotations.get(SUMMARY, "It has no summary.").split())[:TEXT_MAX]


def _page_of(annotations: Texts) -> str:
    """Return the page of the console that an alert names; empty for an address that is not one of its own."""
    page = annotations.get(CONSOLE, "")
    is_own = page.startswith("/") and not page.startswith("//") and "\\" not in page and page.isprintable()
    return page if is_own and " " not in page else ""


def _lines(report: _Report, runbook: str, links: Sequence[str]) -> list[str]:
    """Return the lines of a ticket: each alert with when it began and ended, then where to go on."""
    ordered = sorted(report.alerts, key=lambda each: (each.status != FIRING, sorted(each.labels.items())))
    lines = [_line(each) for each in ordered[:SHOWN_MAX]]
    hidden = len(ordered) - len(lines) + report.truncated_alerts
    lines += [f"And {hidden} more alerts of this group."] if hidden else []
    lines += ["", *(f"Console: {link}" for link in links[:SHOWN_MAX])]
    return [*lines, f"Runbook: {runbook}"] if runbook else lines


def _line(alert: _Alert) -> str:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(alert.labels.items()) if name != ALERTNAME)
    times = f"since {_at(alert.starts_at)}"
    if alert.status != FIRING:
        times = f"from {_at(alert.starts_at)} to {_at(alert.ends_at)}, ended"
    return f"- {_summary(alert)} ({times}) [{labels[:TEXT_MAX]}]"


def _at(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _lists(page: str, saga: Json) -> bool:
    """Return whether a page of the console is a saga's own, or a list whose filters the saga fits."""
    address = urlsplit(page)
    if address.path == f"/sagas/{saga['saga_id']}":
        return True
    filters = parse_qs(address.query)
    if address.path != "/sagas" or not filters:
        return False
    return all(_fits(name, values, saga) for name, values in filters.items())


def _fits(name: str, values: Sequence[str], saga: Json) -> bool:
    match name:
        case "type" | "state" | "step":
            return saga[name] in values
        case "awaiting":
            return saga["awaits_since"] is not None
        case "contradicted":
            return saga["contradicted_at"] is not None and saga["settled_at"] is None
        case _:
            return False  # It cannot be decided here, and a ticket that is shown must be right.
