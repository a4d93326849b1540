"""Every text in every language: it fits two parts, every phone shows it, and it has no PIN."""

from __future__ import annotations

import string

import pytest

from notifier.model.member_texts import (
    LENGTH_MAX,
    PARTS,
    WORDINGS,
    Allocated,
    Contact,
    Language,
    Money,
    Notice,
    TextKind,
    masked,
    written,
)
from notifier.model.text_schedule import ATTEMPTS_MAX, pause_after

LARGEST = Money(amount_minor=10**12, currency="KES")
FIELDS = {"receipt": "SAB1234567", "amount": str(LARGEST), "fee": str(LARGEST), "loan": "LN1234567890"}


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("kind", TextKind)
def test_a_text_fits_two_parts_and_is_of_plain_letters(kind: TextKind, language: Language) -> None:
    allocated = Allocated(split=[(part, LARGEST) for part in list(PARTS)[:4]], balance=LARGEST)
    notice = Notice(saga_id="s", member_id="M1", kind=kind, fields=FIELDS, allocated=allocated)
    body = written(notice, Contact(member_id="M1", phone="254712345678", language=language)).body
    assert len(body) < LENGTH_MAX, "nothing of it is cut"
    assert set(body) <= set(string.ascii_letters + string.digits + " .,:'")
    assert "pin" not in body.lower().split()
    assert "{" not in body


def test_every_kind_has_a_wording() -> None:
    assert set(WORDINGS) == set(TextKind)


def test_an_unknown_language_is_english() -> None:
    notice = Notice(saga_id="s", member_id="M1", kind=TextKind.DIVIDEND_PAID, fields=FIELDS)
    assert "Your dividend" in written(notice, Contact(member_id="M1", phone="254712345678", language="xx")).body


def test_a_text_of_a_saga_has_always_the_same_id_and_each_kind_its_own() -> None:
    ids = {Notice(saga_id=saga, member_id="M1", kind=kind, fields={}).text_id for saga in "ab" for kind in TextKind}
    assert len(ids) == 2 * len(TextKind)


def test_a_phone_is_masked_and_a_short_one_hidden() -> None:
    assert masked("254712345678") == "254******678"
    assert masked("12345") == "***"


def test_pauses_grow_and_the_fifth_attempt_is_the_last() -> None:
    pauses = [pause_after(attempt) for attempt in range(1, ATTEMPTS_MAX)]
    assert None not in pauses
    assert pauses == sorted(pauses)  # type: ignore[type-var]
    assert (pause_after(ATTEMPTS_MAX), ATTEMPTS_MAX) == (None, 5)
