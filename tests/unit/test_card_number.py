"""What looks like a card number, and what only has many digits."""

from __future__ import annotations

import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.values import card_number
from chassis.values.card_number import PRINTED_LENGTH_MIN, text_holds_card_number, token_holds_card_number

CARDS = [
    "4111111111111111",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "30569309025904",
    "38520000023237",
    "3056930009020004",
    "3530111333300000",
    "6011000990139424",
    "6200000000000005",
    "6205500000000000004",
    "6304000000000000000",
    "6759649826438453",
    "5019717010103742",
    "9792030394440796",
]
SEPARATORS = ["", "+", " + ", "-", ".", "_", ":", " ", "--", "\u00a0", "\u2013", "\u200b", "\u3164", "\u2060", ","]


def grouped(number: str, separator: str) -> str:
    return separator.join(number[start : start + 4] for start in range(0, len(number), 4))


@pytest.mark.parametrize("number", CARDS)
@pytest.mark.parametrize("separator", ["", "-", ".", "_", ":"])
def test_a_card_number_is_no_token(number: str, separator: str) -> None:
    text = grouped(number, separator)
    assert token_holds_card_number(text)
    if separator == "" or len(number) >= PRINTED_LENGTH_MIN:
        assert token_holds_card_number(f"tok_{text}")
        assert token_holds_card_number(f"x{text}y")


@pytest.mark.parametrize("number", [each for each in CARDS if len(each) >= PRINTED_LENGTH_MIN])
@pytest.mark.parametrize("separator", SEPARATORS, ids=ascii)
def test_a_card_number_is_found_in_an_address(number: str, separator: str) -> None:
    assert text_holds_card_number(grouped(number, separator))
    assert text_holds_card_number(f"Ann, card {grouped(number, separator)}, 1 Elm St")


@pytest.mark.parametrize(
    "token",
    [
        "4-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1",
        "4111-1111-1111-1111-2030",
        "20301231-4111-1111-1111-1111",
        "4111-1111_1111.1111",
        "tok_4111-1111_1111.1111",
        "123456789012",
        "1234-5678-9012",
        "4111111111111112",
        "4111x1111x1111x1111",
        "4111X1111x11111111",
        "4111+1111+1111+1111",
        "tok_4111+1111+1111+1111",
    ],
)
def test_digits_alone_and_any_separators_are_no_token(token: str) -> None:
    assert token_holds_card_number(token)


@pytest.mark.parametrize(
    "text",
    [
        "\uff14\uff11\uff11\uff11111111111111",
        "٤١١١ ١١١١ ١١١١ ١١١١",
        "4\u31641\u31641\u31641\u31641111 1111 1111",
        "4111 1111-1111 1111",
        "+4111111111111111",
        "3782 822463 10005",
    ],
    ids=ascii,
)
def test_a_card_number_is_found_however_it_is_typed(text: str) -> None:
    assert text_holds_card_number(text)


@pytest.mark.parametrize(
    "token",
    [
        "tok_ok",
        "12345678901",
        "tok_4111111111111112",
        "tok_20261128190500",
        "pm_1NvGfL2eZvKYlo2C4QzzV8Xy",
        "41111111111111114111111111111111411111",
        "0b9f7f52-9c5e-4a3b-8f10-411111111111",
        "tok_0b9f7f524111111111111111",
    ],
)
def test_a_token_is_none(token: str) -> None:
    assert not token_holds_card_number(token)


@pytest.mark.parametrize(
    "text",
    [
        "1 Elm Street, Flat 1200, Block 34",
        "+1 503 555 0100 / +1 503 555 0101",
        "+4915112345678",
        "0044 20 7946 0958",
        "123456789012",
        "1234567890123456",
        "4111 1111 1111 1112",
        "7 Rue 2026-11-28 19:05:00",
    ],
)
def test_an_address_with_other_numbers_has_none(text: str) -> None:
    assert not text_holds_card_number(text)


def test_no_uuid_and_no_digest_is_taken_for_one() -> None:
    chance = random.Random(16)
    made = [uuid.UUID(int=chance.getrandbits(128), version=4) for _ in range(5_000)]
    tokens = [form for each in made for form in (str(each), f"tok_{each.hex}", f"src{each.hex[:24]}")]
    assert [each for each in tokens if token_holds_card_number(each) or text_holds_card_number(each)] == []


def test_no_coordinates_are_taken_for_one() -> None:
    chance = random.Random(16)
    made = [
        f"{chance.uniform(-90, 90):.{decimals}f}{between}{chance.uniform(-180, 180):.{decimals}f}"
        for decimals in (4, 5, 6, 7)
        for between in (", ", ",", " ")
        for _ in range(300)
    ]
    assert [each for each in made if text_holds_card_number(each)] == []


def test_few_random_numbers_are_taken_for_one() -> None:
    chance = random.Random(16)
    made = [str(chance.randrange(10**15, 10**16)) for _ in range(5_000)]
    assert sum(map(text_holds_card_number, made)) < 250


@given(st.text(st.sampled_from("0123456789 -.x+"), max_size=60))
def test_the_search_finds_what_trying_every_window_finds(text: str) -> None:
    """The windows' checksums are differences of sums: each must be that of its digits, one by one."""
    digits = [int(each) for each in text if each.isdigit()]
    sums = card_number._Checksums("".join(map(str, digits)))
    for start in range(len(digits)):
        for end in range(start + 1, len(digits) + 1):
            window = digits[start:end][::-1]
            luhn = sum(window[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in window[1::2])
            assert sums.is_valid(start, end) == (luhn % 10 == 0)


def test_the_work_grows_with_the_length_of_a_text_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand groups must not mean a million windows: an order's texts are searched before it is accepted."""
    calls = 0
    is_valid = card_number._Checksums.is_valid

    def counted(self: card_number._Checksums, start: int, end: int) -> bool:
        nonlocal calls
        calls += 1
        return is_valid(self, start, end)

    monkeypatch.setattr(card_number._Checksums, "is_valid", counted)
    for groups in (500, 1_000, 2_000):
        calls = 0
        assert not token_holds_card_number("x" + "4-" * groups)
        assert 0 < calls <= 2 * groups
