"""Members' contacts and texts: every statement of the step, of its reactions, and of what sends and shows texts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, text

from chassis.postgres.columns import Columns
from chassis.postgres.statement import Statement
from notifier.domain import CANCELLED, Failure
from notifier.model.member_texts import Contact, MemberText, Notice, TextKind, TextSubject, WaitingText
from notifier.tables import contacts, failure_json, record_outcomes, texts, waiting_texts

LEASE: Final = timedelta(seconds=60)
"""How long a process has for the texts that it leases at once; then another one sends them."""

CONTACTS = Columns.of(contacts)
PLANNED = Columns.of(texts).only("text_id", "saga_id", "member_id", "kind", "phone", "language", "body")
WAITING = Columns.of(waiting_texts)

SAVE_CONTACTS = Statement(f"""
    INSERT INTO member_contacts AS known ({CONTACTS.names})
    SELECT {CONTACTS.values} FROM {CONTACTS.rows} ORDER BY member_id
    ON CONFLICT (member_id) DO UPDATE SET {CONTACTS.excluded_assignments}
    WHERE known.registered_at IS NULL OR known.registered_at < excluded.registered_at
""")
FIND_CONTACTS = Statement("""
    SELECT member_id, phone, language FROM member_contacts
    WHERE member_id = ANY(CAST(%(member_ids)s AS text[])) AND phone IS NOT NULL
""")
EXPECT_CONTACTS = Statement("""
    INSERT INTO member_contacts (member_id)
    SELECT member_id FROM unnest(CAST(%(member_ids)s AS text[])) AS row (member_id)
    ORDER BY member_id
    ON CONFLICT DO NOTHING
""")
SAVE_WAITING = Statement(f"""
    INSERT INTO waiting_texts ({WAITING.names})
    SELECT {WAITING.values} FROM {WAITING.ordered_rows}
    ORDER BY ordinal
    ON CONFLICT DO NOTHING
""")
RELEASE_WAITING = Statement(f"""
    WITH released AS (
        DELETE FROM waiting_texts
        USING member_contacts AS contact
        WHERE waiting_texts.member_id = ANY(CAST(%(member_ids)s AS text[]))
          AND contact.member_id = waiting_texts.member_id AND contact.phone IS NOT NULL
        RETURNING waiting_texts.*, contact.phone, contact.language AS chosen
    )
    INSERT INTO texts ({PLANNED.names})
    SELECT {PLANNED.names} FROM released WHERE (language = 'sw') = (chosen = 'sw') ORDER BY text_id
    ON CONFLICT (text_id) DO NOTHING
""")
SAVE_TEXTS = Statement(f"""
    INSERT INTO texts ({PLANNED.names})
    SELECT {PLANNED.values} FROM {PLANNED.ordered_rows}
    ORDER BY ordinal
    ON CONFLICT (text_id) DO NOTHING
""")
LEASE_DUE = Statement("""
    UPDATE texts SET lease = %(lease)s, due_at = CAST(%(ends_at)s AS timestamptz)
    WHERE text_id IN (
        SELECT text_id FROM texts WHERE state = 'DUE' AND due_at <= CAST(%(now)s AS timestamptz)
        ORDER BY due_at LIMIT %(count)s
        FOR UPDATE SKIP LOCKED
    )
    RETURNING text_id, phone, body, attempt_count
""")
SETTLE = Statement("""
    UPDATE texts
    SET state = row.state, attempt_count = row.attempts, due_at = coalesce(row.due_at, texts.due_at), lease = NULL,
        last_error = row.error,
        ended_at = CASE WHEN row.state = 'DUE' THEN NULL ELSE CAST(%(now)s AS timestamptz) END
    FROM unnest(CAST(%(ids)s AS text[]), CAST(%(states)s AS text[]), CAST(%(attempts)s AS smallint[]),
                CAST(%(due)s AS timestamptz[]), CAST(%(errors)s AS text[])) AS row (id, state, attempts, due_at, error)
    WHERE text_id = row.id AND lease = %(lease)s
""")
LIST_TEXTS = text("""
    SELECT text_id, position, saga_id, member_id, kind, phone, language, body, state, attempt_count,
           CASE state WHEN 'DUE' THEN due_at END AS next_attempt_at, last_error, created_at, ended_at
    FROM texts
    WHERE position < :before AND (CAST(:member_id AS text) IS NULL OR member_id = :member_id)
      AND (CAST(:state AS text) IS NULL OR state = :state)
      AND (CAST(:saga_id AS text) IS NULL OR saga_id = :saga_id)
    ORDER BY position DESC LIMIT :count
""")
OLDEST_DUE_S = text("""
    SELECT coalesce(extract(epoch FROM now() - min(due_at)), 0) FROM texts WHERE state = 'DUE' AND due_at <= now()
""")
GIVEN_UP_COUNT = text("""
    SELECT count(*) FROM texts WHERE state = 'GIVEN_UP' AND created_at > now() - interval '1 day'
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A member's contact as it was registered."""

    member_id: str
    phone: str
    language: str
    registered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasedText:
    """A text that is to be sent now; ``attempts`` were made before."""

    text_id: str
    phone: str
    body: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledText:
    """An attempt as it is stored. ``due_at`` is when the next one is made."""

    text_id: str
    state: str
    attempts: int
    due_at: datetime | None
    error: str | None


def save_contacts(registered: Iterable[Registered], tx: Connection) -> None:
    """Store where members' texts go. What was registered last counts."""
    latest: dict[str, Registered] = {}
    for each in registered:
        known = latest.get(each.member_id)
        if known is None or known.registered_at < each.registered_at:
            latest[each.member_id] = each
    if latest:
        SAVE_CONTACTS.run(tx, CONTACTS.parameters(list(latest.values())))
        RELEASE_WAITING.run(tx, {"member_ids": sorted(latest)})


def find_contacts(member_ids: Collection[str], tx: Connection) -> dict[str, Contact]:
    """Return the contacts of these members; one whose registration has not arrived yet has none."""
    if not member_ids:
        return {}
    rows = FIND_CONTACTS.rows(tx, {"member_ids": sorted(member_ids)})
    return {row.member_id: Contact(member_id=row.member_id, phone=row.phone, language=row.language) for row in rows}


def save_texts(planned: Sequence[MemberText], tx: Connection) -> None:
    """Store texts; one that is stored already stays as it is."""
    if planned:
        SAVE_TEXTS.run(tx, PLANNED.parameters(planned))


def save_waiting(waiting: Sequence[WaitingText], tx: Connection) -> None:
    """Store texts until their members' registrations arrive, each in every language.

    The row of a contact that is expected is what this and a registration at the same time wait for each other at: the
    later of the two finds what the other has stored, and releases the texts.
    """
    if waiting:
        members = {"member_ids": sorted({each.member_id for each in waiting})}
        EXPECT_CONTACTS.run(tx, members)
        SAVE_WAITING.run(tx, WAITING.parameters(waiting))
        RELEASE_WAITING.run(tx, members)


def record_subjects(subjects: Iterable[TextSubject], tx: Connection) -> list[Notice]:
    """Record what sagas are about, and return the notices of those that have failed already."""
    return _failed(record_outcomes({each.saga_id: (_subject_json(each), None) for each in subjects}, tx))


def record_failures(failures: Iterable[Failure], tx: Connection) -> list[Notice]:
    """Record how sagas failed, and return the notices of those of which it is known what they are about."""
    return _failed(record_outcomes({each.saga_id: (None, failure_json(each)) for each in failures}, tx))


def lease_due(count: int, lease: str, tx: Connection, *, now: datetime) -> list[LeasedText]:
    """Lease texts that are due, those first that are due for the longest time."""
    rows = LEASE_DUE.rows(tx, {"count": count, "lease": lease, "now": now, "ends_at": now + LEASE})
    return [LeasedText(text_id=row.text_id, phone=row.phone, body=row.body, attempts=row.attempt_count) for row in rows]


def settle(settled: Sequence[SettledText], lease: str, tx: Connection, *, now: datetime) -> None:
    """Store attempts. One whose lease has ended was made by another process as well, which records its own."""
    if settled:
        values = {
            "ids": [each.text_id for each in settled],
            "states": [each.state for each in settled],
            "attempts": [each.attempts for each in settled],
            "due": [each.due_at for each in settled],
            "errors": [each.error for each in settled],
            "lease": lease,
            "now": now,
        }
        SETTLE.run(tx, values)


def list_texts(
    tx: Connection, *, before: int, count: int, member_id: str | None, state: str | None, saga_id: str | None
) -> list[Any]:
    """Return texts, the newest first."""
    values = {"before": before, "count": count, "member_id": member_id, "state": state, "saga_id": saga_id}
    return list(tx.execute(LIST_TEXTS, values).all())


def _subject_json(subject: TextSubject) -> str:
    return json.dumps(
        {
            "member_id": subject.member_id,
            "fails_as": subject.fails_as,
            "cancelled_as": subject.cancelled_as,
            "fields": dict(subject.fields),
        }
    )


def _failed(found: Iterable[tuple[Any, Failure]]) -> list[Notice]:
    return [_subject(row).failed(is_cancelled=failure.cause == CANCELLED) for row, failure in found]


def _subject(row: Any) -> TextSubject:
    fields = json.loads(row.subject)
    return TextSubject(
        saga_id=row.saga_id,
        member_id=fields["member_id"],
        fails_as=TextKind(fields["fails_as"]),
        cancelled_as=TextKind(fields["cancelled_as"]),
        fields=fields["fields"],
    )
