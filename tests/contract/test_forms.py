"""No refusal shows a regular expression: each pattern of an API's field has words."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from chassis.http.forms import FORMS, words_of
from chassis.http.problem import field_errors
from checkout.domain import Cart

ROOT = Path(__file__).parents[2]


def test_each_pattern_has_words() -> None:
    patterns = {
        each.value
        for folder in ("services", "chassis/chassis/http")
        for path in (ROOT / folder).rglob("*.py")
        for each in ast.walk(ast.parse(path.read_text()))
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value.startswith("^")
    }
    fragments = {"^", "^\\s"}
    assert patterns - fragments - FORMS.keys() == set()
    assert len(patterns) > 5


def test_an_unknown_pattern_is_not_shown() -> None:
    assert "[" not in words_of("^[abc]$")
    assert all("[" not in words_of(pattern) for pattern in FORMS)


def test_a_name_with_a_line_break_is_refused_in_words() -> None:
    body = {
        "customer_id": "c1",
        "currency": "usd",
        "lines": [{"sku": "tea", "quantity": 1}],
        "payment_method": {"token": "tok ok"},
        "ship_to": {"name": "Ann\nDoe", "street": "1 Elm St", "country": "usa"},
    }
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Cart).validate_python(body)
    found = {each.pointer: each.detail for each in field_errors([dict(each) for each in caught.value.errors()])}
    assert "one line without control characters" in found["#/ship_to/name"]
    assert "such as USD" in found["#/currency"]
    assert "such as US" in found["#/ship_to/country"]
    assert "letters, digits and the characters" in found["#/payment_method/token"]
