"""A saga's timeline as a tree: each line under the message that caused it, times from the saga's start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Json = Mapping[str, Any]

MARKS = {"command": "→", "reply": "←", "act": "☞", "timer": "⏱", "dead_letter": "✝"}
"""The mark before an entry that is not a plain event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the tree: its time after the saga's start, the branches before it, and the entry."""

    after_s: float
    branches: str
    entry: Json

    def render(self, width: int) -> str:
        """Return the line as text; ``width`` is that of the longest title, so that the columns align."""
        entry = self.entry
        receiver = f"to {entry['topic'].partition('.')[0]}" if entry["kind"] == "command" and entry.get("topic") else ""
        where = " ".join(part for part in (entry["service"], receiver, entry.get("step")) if part)
        notes = []
        if entry.get("attempt") and entry["attempt"] > 1:
            notes.append(f"attempt {entry['attempt']}")
        if entry.get("late"):
            notes.append("LATE")
        if entry.get("detail"):
            notes.append(str(entry["detail"]))
        note = f"  {' · '.join(notes)}" if notes else ""
        return f"{_after(self.after_s)}  {self.title:<{width}}  {where}{note}"

    @property
    def title(self) -> str:
        """The branches and the message's name."""
        mark = MARKS.get(self.entry["kind"])
        return f"{self.branches}{mark + ' ' if mark else ''}{self.entry['type']}"


def write(found: Json, write_line: Callable[[str], None], referring: Sequence[Json] = ()) -> None:
    """Write a timeline as the tracker's API returns it: the saga, the tree, and how fresh it is.

    ``referring`` are the sagas that refer to this one: the returns of an order.
    """
    tree = lines(found["entries"])
    width = max((len(line.title) for line in tree), default=0)
    write_line(heading(found["saga"]))
    for each in tree:
        write_line(each.render(width))
    for saga in reversed(referring):
        write_line(f"refers to it: {heading(saga)}")
    write_line(freshness(found["freshness"]))


def lines(entries: Sequence[Json]) -> list[Line]:
    """Return the entries as a tree by causation, siblings by time; an entry whose cause is unknown is a root.

    A single child stands under its cause without a branch of its own, so that a long chain stays readable.
    """
    ordered = sorted(entries, key=lambda entry: (time_of(entry), entry["message_id"]))
    known = {entry["message_id"] for entry in ordered}
    children: dict[str | None, list[Json]] = {}
    for entry in ordered:
        cause = entry.get("causation_id")
        children.setdefault(cause if cause in known and cause != entry["message_id"] else None, []).append(entry)
    start = time_of(ordered[0]) if ordered else datetime.now(UTC)
    shown: set[str] = set()
    tree = [each for root in children.get(None, []) for each in _branch(root, "", "", children, start, shown)]
    # Entries that cause one another in a cycle have no root, and must be shown all the same.
    rest = [entry for entry in ordered if entry["message_id"] not in shown]
    return tree + [line(entry, start) for entry in rest]


def line(entry: Json, start: datetime, branches: str = "") -> Line:
    """Return the entry as a line of a timeline that began at ``start``."""
    return Line(after_s=(time_of(entry) - start).total_seconds(), branches=branches, entry=entry)


def _branch(
    entry: Json, own: str, below: str, children: Mapping[str | None, list[Json]], start: datetime, shown: set[str]
) -> Iterator[Line]:
    """Yield the entry and what it caused, depth first, with an explicit stack because chains may be long."""
    stack = [(entry, own, below)]
    while stack:
        current, branches, under = stack.pop()
        if current["message_id"] in shown:
            continue
        shown.add(current["message_id"])
        yield line(current, start, branches)
        caused = children.get(current["message_id"], [])
        following = []
        for index, child in enumerate(caused):
            is_last = index == len(caused) - 1
            if len(caused) == 1:
                following.append((child, under, under))
            else:
                following.append((child, under + ("└ " if is_last else "├ "), under + ("  " if is_last else "│ ")))
        stack.extend(reversed(following))


def time_of(entry: Json) -> datetime:
    """Return when the entry's message happened."""
    return parse_time(entry["occurred_at"])


def parse_time(text: str) -> datetime:
    """Return an API's time as an aware UTC time."""
    return datetime.fromisoformat(text).astimezone(UTC)


def heading(saga: Json) -> str:
    """Return the saga in one line: its type, id, subject, state and duration.

    The lines below have the reason, the outcome that it waits for, and whether a provider contradicted itself.
    """
    took = ""
    if saga.get("finished_at"):
        seconds = (parse_time(saga["finished_at"]) - parse_time(saga["started_at"])).total_seconds()
        took = f" after {seconds:.3f} s"
    subject = f" · {saga['subject']}" if saga.get("subject") else ""
    cause = (saga.get("cause") or "reason").lower().replace("_", " ")
    why = f"\n{cause}: {saga['reason']}" if saga.get("reason") else ""
    waits = ""
    if saga.get("awaits_since"):
        waits = f"\nwaits for the outcome of {saga['step']}, open since {_second(saga['awaits_since'])}"
    return f"{saga['type']} {saga['saga_id']}{subject} · {saga['state']}{took}{why}{waits}{_contradiction(saga)}"


def _contradiction(saga: Json) -> str:
    """Return the line about a contradiction that no service undoes: open, or settled by whom; empty without one."""
    if not saga.get("contradicted_at"):
        return ""
    open_ = "not settled: a provider did otherwise than it had reported"
    settled = f"settled by {saga['settled_by']} at {_second(saga['settled_at'])}" if saga.get("settled_at") else open_
    return f"\ncontradicted since {_second(saga['contradicted_at'])}, {settled}"


def _second(text: str) -> str:
    return parse_time(text).isoformat(timespec="seconds").replace("+00:00", "Z")


def _after(seconds: float) -> str:
    return f"{seconds:+9.3f}"


def freshness(freshness: Json) -> str:
    """Return the sentence about the time up to which the timeline is complete."""
    if freshness["as_of"] is None:
        return "The tracker has not caught up yet; this may be incomplete."
    at = parse_time(freshness["as_of"]).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"Everything that happened before {at} is shown."
