"""What looks like a card number, and what only has many digits."""

from __future__ import annotations

import random
import uuid

import pytest

from chassis.values.card_number import holds_card_number


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111111",
        "4111-1111-1111-1111",
        "4111.1111.1111.1111",
        "4111_1111_1111_1111",
        "4111:1111:1111:1111",
        "4111--1111--1111--1111",
        "4-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1",
        "411111-1111111111",
        "3782-822463-10005",
        "tok_4111111111111111",
        "tok-4111-1111-1111-1111-visa",
        "x4111111111111111x",
        "4111-1111-1111-1111-2030",
        "20301231-4111-1111-1111-1111",
        "6011000990139424",
        "4222222222222",
        "6304000000000000000",
        "4111 1111 1111 1111",
        "My card 4111\u00a01111\u00a01111\u00a01111 please",
        "\uff14\uff11\uff11\uff11111111111111",
        "123456789012",
        "1234-5678-9012",
    ],
)
def test_a_card_number_is_found_whatever_separates_its_digits(text: str) -> None:
    assert holds_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "tok_ok",
        "tok_1",
        "12345678901",
        "tok_4111111111111112",
        "tok_20261128190500",
        "pm_1NvGfL2eZvKYlo2C4QzzV8Xy",
        "41111111111111114111111111111111411111",
        "0b9f7f52-9c5e-4a3b-8f10-4111111111111".replace("4111111111111", "411111111111"),
        "1 Elm Street, Flat 1200, Block 34",
    ],
)
def test_a_token_is_none(text: str) -> None:
    assert not holds_card_number(text)


def test_no_uuid_is_taken_for_a_card_number() -> None:
    chance = random.Random(16)
    made = [uuid.UUID(int=chance.getrandbits(128), version=4) for _ in range(20_000)]
    assert [each for each in made if holds_card_number(str(each)) or holds_card_number(f"tok_{each.hex}")] == []
