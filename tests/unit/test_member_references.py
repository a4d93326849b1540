"""What payers write, and how people write their phones: exact after normalising, else a person decides."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from members.domain import CollectionState, collection_reference, collection_state
from members.phones import hash_of, normal_phone, shown_phone
from members.references import Candidate, Named, is_reserved, read

SAVINGS_OF_123 = (Candidate(kind=Named.ACCOUNT, id="00123", account="SAVINGS"),)


@pytest.mark.parametrize("text", [" dep-00123 ", "DEP00123", "dep 00123", "Dep.00123", "dep#00123", "ＤＥＰ00123"])
def test_a_reference_is_the_same_however_its_parts_are_written(text: str) -> None:
    assert read(text).candidates == (Candidate(kind=Named.ACCOUNT, id="00123", account="DEPOSITS"),)


def test_a_number_alone_is_a_member_and_a_keyword_names_an_account() -> None:
    assert read("00123").candidates == (Candidate(kind=Named.MEMBER, id="00123"),)
    assert read("SAV/00123").candidates == SAVINGS_OF_123
    assert read("ln 77").candidates == (
        Candidate(kind=Named.LOAN, id="LN77"),
        *read("LN77").candidates[1:],
    )


def test_numbers_are_never_shortened_or_padded() -> None:
    assert read("DEP123").candidates[0].id == "123"
    assert read("DEP00123").candidates[0].id == "00123"


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "no_reference"), ("", "no_reference"), (" -- ", "no_reference"), ("🙂", "not_text"),
     ("00123🙂", "not_text"), ("1" * 21, "not_text"), ("jina langu", "unknown_reference"), ("12", "unknown_reference")],
)  # fmt: skip
def test_what_names_nothing_has_a_reason(text: str | None, reason: str) -> None:
    found = read(text)
    assert found.reason == reason
    assert all(each.kind is Named.MEMBER for each in found.candidates), (
        "at most a member of that number, if there is one"
    )


def test_a_prompt_s_reference_fits_and_is_read_back() -> None:
    reference = collection_reference("01J0000000000000000000000A")
    assert len(reference) == 12
    assert reference == collection_reference("01J0000000000000000000000A") != collection_reference("01J")
    assert read(reference.lower()).candidates[0] == Candidate(kind=Named.COLLECTION, id=reference)


@pytest.mark.parametrize("number", ["DEP123", "SHR9", "SAV001", "LN12", collection_reference("x")])
def test_no_member_has_a_number_that_reads_as_something_else(number: str) -> None:
    assert is_reserved(number)
    assert not is_reserved("00123")


@pytest.mark.parametrize(
    "text",
    ["0712345678", "712345678", "254712345678", "+254712345678", "+254 712 345 678", "0712-345-678", "(0712) 345678"],
)
def test_a_phone_has_twelve_digits_however_it_is_written(text: str) -> None:
    assert normal_phone(text) == "254712345678"


def test_numbers_that_begin_with_one_are_phones_too() -> None:
    assert normal_phone("0110345678") == normal_phone("+254 110 345 678") == normal_phone("2541 1034 5678")
    assert shown_phone(normal_phone("0110345678")) == "25411****678"


@pytest.mark.parametrize(
    "text", ["2550712345678", "0812345678", "07123456789", "071234567", "+1 503 555 0100", "٠٧١٢", ""]
)
def test_what_is_no_phone_of_kenya_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Not a mobile number"):
        normal_phone(text)


def test_a_clear_number_and_the_provider_s_hash_of_it_lead_to_the_same_payer() -> None:
    hashed_by_provider = hashlib.sha256(b"254712345678").hexdigest()
    assert hash_of("254712345678", b"key") == hmac.new(b"key", hashed_by_provider.encode(), hashlib.sha256).hexdigest()
    assert hash_of("254712345678", b"key") != hash_of("254712345678", b"other")


@pytest.mark.parametrize(
    ("receipt", "is_paid", "failure", "state"),
    [(None, False, None, "REQUESTED"), (None, True, None, "PAID"), ("R", False, None, "PAID"),
     (None, False, "cancelled", "FAILED"), (None, False, "expired", "EXPIRED"), ("R", False, "cancelled", "PAID_LATE"),
     ("R", False, "expired", "PAID_LATE")],
)  # fmt: skip
@pytest.mark.parametrize("is_prompted", [False, True])
def test_money_that_came_is_never_shown_as_failed(
    receipt: str | None, is_paid: bool, failure: str | None, state: str, is_prompted: bool
) -> None:
    found = collection_state(receipt=receipt, is_paid=is_paid, failure=failure, is_prompted=is_prompted)
    assert found is CollectionState("PROMPTED" if is_prompted and state == "REQUESTED" else state)
