"""What is known of the prompts, payouts and queries that callbacks are about: looked up once for a batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Column, Connection, PrimaryKeyConstraint, Table, Text

from chassis.postgres.statement import Statement
from chassis.saga.attempts import AttemptState, attempt_key
from mobile_money.port import Paid
from mobile_money.tables import metadata

outcomes = Table(
    "outcomes",
    metadata,
    Column("key", Text, nullable=False, comment="of the attempt"),
    Column("receipt", Text, nullable=False),
    Column("detail", Text, nullable=False, comment="of its first evidence; every later one has the same"),
    PrimaryKeyConstraint("key", "receipt"),
)

PROMPTED: Final = """
    SELECT prompts.saga_id, prompts.provider, prompts.short_code, prompts.reference, prompts.phone,
           prompts.amount_minor, attempts.number, attempts.provider_id, attempts.state
    FROM prompts
    LEFT JOIN attempts ON attempts.saga_id = prompts.saga_id AND attempts.step = 'send_prompt'
"""
PROMPTS_BY_ID: Final = Statement(f"""
    {PROMPTED}
    WHERE attempts.provider_id = ANY(CAST(%(provider_ids)s AS text[]))
""")
PROMPTS_BY_REFERENCE: Final = Statement(f"""
    {PROMPTED}
    WHERE (prompts.short_code, prompts.reference) IN (
        SELECT * FROM unnest(CAST(%(short_codes)s AS text[]), CAST(%(references)s AS text[]))
    )
""")
REQUESTED_BY: Final = """
    SELECT own_ids.own_id, own_ids.saga_id, own_ids.step, own_ids.number, own_ids.short_code, attempts.key,
           attempts.state, coalesce(payouts.amount_minor, reversals.amount_minor, prompts.amount_minor) AS amount_minor,
           coalesce(payouts.phone, prompts.phone) AS phone, payouts.lane, prompts.reference
    FROM own_ids
    JOIN attempts ON attempts.saga_id = own_ids.saga_id AND attempts.step = own_ids.step
        AND attempts.number = own_ids.number
    LEFT JOIN payouts ON payouts.saga_id = own_ids.saga_id AND own_ids.step = 'send_payout'
    LEFT JOIN reversals ON reversals.saga_id = own_ids.saga_id AND own_ids.step = 'send_reversal'
    LEFT JOIN prompts ON prompts.saga_id = own_ids.saga_id AND own_ids.step = 'send_prompt'
"""
REQUESTS: Final = Statement(f"""
    {REQUESTED_BY}
    WHERE own_ids.own_id = ANY(CAST(%(own_ids)s AS text[])) OR attempts.key = ANY(CAST(%(keys)s AS text[]))
""")
REVERSALS_BY_ID: Final = Statement(f"""
    {REQUESTED_BY}
    WHERE attempts.provider_id = ANY(CAST(%(provider_ids)s AS text[]))
""")
QUESTIONS: Final = Statement("""
    SELECT short_code, question_id, kind, key, receipt FROM questions
    WHERE question_id = ANY(CAST(%(question_ids)s AS text[]))
""")
KEEP: Final = Statement("""
    INSERT INTO outcomes (key, receipt, detail) VALUES (%(key)s, %(receipt)s, %(detail)s)
    ON CONFLICT (key, receipt) DO NOTHING
""")
KEPT: Final = Statement("SELECT detail FROM outcomes WHERE key = %(key)s AND receipt = %(receipt)s")


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownPrompt:
    """A prompt, with its attempt."""

    saga_id: str
    provider: str
    short_code: str
    reference: str
    phone: str
    amount_minor: int
    number: int | None
    provider_id: str | None
    state: str | None

    @property
    def is_open(self) -> bool:
        """Whether its outcome is not known."""
        return self.state == AttemptState.OPEN.value

    @property
    def key(self) -> str:
        """The attempt's key."""
        return attempt_key(self.saga_id, "send_prompt", self.number or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRequest:
    """A payout, a reversal or a prompt by our id of its attempt. ``lane`` is a payout's."""

    own_id: str
    saga_id: str
    step: str
    number: int
    short_code: str
    key: str
    state: str
    amount_minor: int
    phone: str | None
    lane: str | None
    reference: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a batch of callbacks may be about."""

    prompts: Mapping[str, KnownPrompt] = field(default_factory=dict)
    """By the provider's id."""
    by_reference: Mapping[tuple[str, str], KnownPrompt] = field(default_factory=dict)
    requests: Mapping[str, KnownRequest] = field(default_factory=dict)
    """By our id, and by key."""
    questions: Mapping[tuple[str, str], Any] = field(default_factory=dict)


def look_up(
    tx: Connection,
    *,
    prompt_ids: Collection[str] = (),
    references: Collection[tuple[str, str]] = (),
    own_ids: Collection[str] = (),
    question_ids: Collection[str] = (),
) -> Known:
    """Look up what these ids are about."""
    questions = {}
    if question_ids:
        rows = QUESTIONS.rows(tx, {"question_ids": sorted(question_ids)})
        questions = {(row.short_code, row.question_id): row for row in rows}
    keys = sorted(row.key for row in questions.values() if row.key is not None)
    requests: dict[str, KnownRequest] = {}
    if own_ids or keys:
        for row in REQUESTS.rows(tx, {"own_ids": sorted(own_ids), "keys": keys}):
            found = KnownRequest(**row._asdict())
            requests[found.own_id] = requests[found.key] = found
    prompts = {}
    if prompt_ids:
        rows = PROMPTS_BY_ID.rows(tx, {"provider_ids": sorted(prompt_ids)})
        prompts = {row.provider_id: KnownPrompt(**row._asdict()) for row in rows}
    return Known(
        prompts=prompts, by_reference=prompts_by_reference(tx, references), requests=requests, questions=questions
    )


def prompts_by_reference(tx: Connection, references: Collection[tuple[str, str]]) -> dict[tuple[str, str], KnownPrompt]:
    """Return the prompts with these references, each at its short code."""
    if not references:
        return {}
    ordered = sorted(references)
    values = {"short_codes": [each[0] for each in ordered], "references": [each[1] for each in ordered]}
    rows = PROMPTS_BY_REFERENCE.rows(tx, values)
    return {(row.short_code, row.reference): KnownPrompt(**row._asdict()) for row in rows}


def reversal_by_id(tx: Connection, provider_id: str) -> KnownRequest | None:
    """Return the reversal that the provider knows by this id: it has no key of ours."""
    rows = REVERSALS_BY_ID.rows(tx, {"provider_ids": [provider_id]})
    return KnownRequest(**rows[0]._asdict()) if rows else None


def kept_detail(tx: Connection, key: str, paid: Paid, *, is_one: bool = False) -> str:
    """Return the detail of this success, which is that of the first evidence with the same receipt.

    ``is_one``: whatever the receipt, it is the same success. A receipt goes back to its payer once, and the answer that
    it has gone back before names none.
    """
    values = {"key": key, "receipt": "" if is_one else paid.receipt}
    KEEP.run(tx, {**values, "detail": paid.detail})
    (row,) = KEPT.rows(tx, values)
    return str(row.detail)
