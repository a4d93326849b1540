"""The one rule for text that people read, and the one for identifiers; and the lists that codes come from."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from baraza.commands.options import check_reason
from baraza.terminal import UsageRefusal
from chassis.http.fields import Country, Currency, CustomerId, ShortText, Sku
from chassis.values.ids import canonical
from chassis.values.remark import remark
from chassis.values.text import are_plain, human_text, identifier, is_plain
from saga_tracker.http.api import Reason

BLANKS = ["", " ", "\u00a0", "\u3000", "\u200b", "\u200d\u2060", "\ufeff", "\u00ad", "\u3164", "\u2800", "\U000e0020"]


@pytest.mark.parametrize("blank", BLANKS, ids=ascii)
@pytest.mark.parametrize("rule", [human_text, identifier])
def test_a_text_that_shows_nothing_is_refused(rule: object, blank: str) -> None:
    assert callable(rule)
    with pytest.raises(ValueError, match=r"Blank|cannot be seen"):
        rule(blank, length_max=200)


def test_identifiers_that_look_the_same_are_the_same() -> None:
    assert identifier("cafe\u0301", length_max=9) == identifier("caf\u00e9", length_max=9) == "caf\u00e9"
    assert identifier(" c1 ", length_max=9) == "c1"


@pytest.mark.parametrize("name", ["\ufa19", "\u795e", "cafe\u0301", "\u1112\u1161\u11ab"], ids=ascii)
def test_a_name_stays_as_it_is_typed_apart_from_blanks_around_it(name: str) -> None:
    """Unicode's NFC has U+795E for U+FA19: the name of one family becomes another's."""
    assert human_text(f" {name} ", length_max=9) == name


@pytest.mark.parametrize("hidden", ["c\u200b1", "c\u00a01", "c\u200d1", "\ufeffc1", "c\u00ad1", "c\u202e1", "c\ufe0f1"])
def test_an_identifier_has_nothing_invisible(hidden: str) -> None:
    with pytest.raises(ValueError, match=r"Character \d \(U\+[0-9A-F]{4}\) cannot be seen"):
        identifier(hidden, length_max=9)


def test_a_name_may_have_the_joiners_of_its_script_and_emoji() -> None:
    for name in ("می\u200cخواهم", "👩\u200d👩\u200d👧 Ltd", "क्\u200dष", "Ann-Marie O’Hara", "李 小龍"):
        assert human_text(name, length_max=50) == name


@pytest.mark.parametrize("text", ["a\u202eb", "a\u2066b"])
def test_a_name_cannot_turn_the_text_around_it(text: str) -> None:
    with pytest.raises(ValueError, match="direction"):
        human_text(text, length_max=9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a\nb", "line break"), ("a\x00b", r"U\+0000"), ("a\u2028b", r"U\+2028"), ("x" * 10, "10 characters; at most 9")],
)
def test_a_refusal_says_what_is_wrong(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        human_text(text, length_max=9)


@given(st.lists(st.text(st.characters(max_codepoint=0xFF), min_size=1, max_size=12), max_size=4))
def test_a_plain_text_is_one_that_the_rules_leave_as_it_is(texts: list[str]) -> None:
    if are_plain(texts):
        assert all(map(is_plain, texts))
    for text in filter(is_plain, texts):
        assert text == text.strip() == unicodedata.normalize("NFC", text)
        assert all(" " <= letter <= "~" for letter in text)
    assert are_plain([text for text in texts if is_plain(text) and "|" not in text])


@given(st.text(max_size=30))
def test_the_rules_are_stable(text: str) -> None:
    for rule in (human_text, identifier):
        try:
            once = rule(text, length_max=100)
        except ValueError:
            continue
        assert rule(once, length_max=100) == once


@pytest.mark.parametrize("kind", [Sku, CustomerId, ShortText])
def test_fields_apply_the_rules(kind: Any) -> None:
    field: TypeAdapter[str] = TypeAdapter(kind)
    assert field.validate_python(" cafe\u0301") == ("cafe\u0301" if kind is ShortText else "caf\u00e9")
    with pytest.raises(ValidationError, match="Blank"):
        field.validate_python("\u200b\u3164" if kind is ShortText else "   ")


def test_codes_come_from_the_lists_of_iso() -> None:
    currency: TypeAdapter[str] = TypeAdapter(Currency)
    country: TypeAdapter[str] = TypeAdapter(Country)
    assert [currency.validate_python(code) for code in ("USD", "KES")] == ["USD", "KES"]
    assert [country.validate_python(code) for code in ("US", "KE", "XK")] == ["US", "KE", "XK"]
    for code in ("ZZZ", "XXX", "usd", "US"):
        with pytest.raises(ValidationError, match=r"ISO 4217|pattern"):
            currency.validate_python(code)
    for code in ("ZZ", "us", "USA", "UK"):
        with pytest.raises(ValidationError, match=r"ISO 3166|pattern"):
            country.validate_python(code)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("01jcz3k8t0abcdefghjkmnpqrs", "01JCZ3K8T0ABCDEFGHJKMNPQRS"),
        ("01JCZ3K8T0ABCDEFGHJKMNPQRS", "01JCZ3K8T0ABCDEFGHJKMNPQRS"),
        ("checkout-events-0-12345678", "checkout-events-0-12345678"),
        ("81jcz3k8t0abcdefghjkmnpqrs", "81jcz3k8t0abcdefghjkmnpqrs"),
        ("01jcz3k8t0abcdefghjkmnpqr\u017f", "01jcz3k8t0abcdefghjkmnpqr\u017f"),
    ],
)
def test_only_a_ulid_means_the_same_in_small_letters(text: str, known: str) -> None:
    assert canonical(text) == known


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\u200b", "Blank"),
        ("stolen: 4111 1111 1111 1111", "card number"),
        ("a\u202eb", "direction"),
        ("a\nb", "line break"),
        ("x" * 501, "501 characters; at most 500"),
    ],
)
def test_a_remark_of_staff_is_a_text_without_a_card_number(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        remark(text)
    with pytest.raises(ValidationError, match=f"{expected}|pattern|at most"):
        Reason(reason=text)
    with pytest.raises(UsageRefusal, match=f"--reason: .*{expected}"):
        check_reason(text)


def test_a_remark_may_name_orders_and_times() -> None:
    text = "see 01JCZ3K8T0ABCDEFGHJKMNPQRS, called 2026-11-28 19:05 from +1 503 555 0100"
    assert remark(f" {text} ") == Reason(reason=text).reason == text
