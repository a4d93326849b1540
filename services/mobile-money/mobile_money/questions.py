"""Queries whose answers come by callback: each is kept with the provider's id of it, so that a restart loses none."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Engine

from chassis.postgres.statement import Statement
from chassis.saga.answers import NotFound
from mobile_money.codes import Meaning

KEEP: Final = Statement("""
    INSERT INTO questions (short_code, question_id, kind, key, receipt, queried_at)
    VALUES (%(short_code)s, %(question_id)s, %(kind)s, %(key)s, %(receipt)s, %(now)s)
    ON CONFLICT (short_code, question_id) DO NOTHING
""")
ANSWERED: Final = Statement("""
    SELECT questions.answer FROM questions
    JOIN attempts ON attempts.key = questions.key
    WHERE questions.key = %(key)s AND questions.answer = 'NOT_FOUND' AND attempts.last_sent_at <= questions.queried_at
        AND NOT EXISTS (
            SELECT FROM questions AS later WHERE later.key = %(key)s AND later.queried_at > questions.queried_at
        )
    LIMIT 1
""")
FIND: Final = Statement("""
    SELECT question_id, kind, key, receipt FROM questions
    WHERE short_code = %(short_code)s AND question_id = %(question_id)s
""")
ANSWER: Final = Statement("""
    UPDATE questions SET answered_at = %(now)s, answer = %(answer)s
    WHERE short_code = %(short_code)s AND question_id = %(question_id)s
""")


class QuestionKind(enum.StrEnum):
    """What a query is about."""

    ATTEMPT = "ATTEMPT"
    RECEIPT = "RECEIPT"
    BALANCE = "BALANCE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A query: about an attempt by its key, about a receipt, or about the balances."""

    kind: QuestionKind
    key: str | None = None
    receipt: str | None = None


class Questions:
    """The queries of a process, for callers in many threads."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._clock = clock

    def keep(self, short_code: str, question_id: str, question: Question) -> None:
        """Keep a query that the provider has taken."""
        values = {"kind": question.kind.value, "key": question.key, "receipt": question.receipt, "now": self._clock()}
        with self._engine.begin() as tx:
            KEEP.run(tx, {"short_code": short_code, "question_id": question_id, **values})

    def answer(self, key: str) -> NotFound | None:
        """Return that the last query about an attempt found nothing, if it was made after the attempt's last send."""
        with self._engine.begin() as tx:
            return NotFound() if ANSWERED.rows(tx, {"key": key}) else None


def find(tx: Connection, short_code: str, question_id: str) -> Question | None:
    """Return a query by the provider's id of it; None where it is not known, or not yet."""
    rows = FIND.rows(tx, {"short_code": short_code, "question_id": question_id})
    if not rows:
        return None
    return Question(kind=QuestionKind(rows[0].kind), key=rows[0].key, receipt=rows[0].receipt)


def answer(tx: Connection, short_code: str, question_id: str, meaning: Meaning, *, now: datetime) -> None:
    """Record what a query was answered."""
    ANSWER.run(tx, {"short_code": short_code, "question_id": question_id, "answer": meaning.value, "now": now})
