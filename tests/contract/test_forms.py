"""No refusal shows a regular expression: each pattern of an API's field has words."""

from __future__ import annotations

import ast
from pathlib import Path

from chassis.http.forms import FORMS, words_of

ROOT = Path(__file__).parents[2]
CODES = {"^[A-Z]{3}$", "^[A-Z]{2}$"}
"""For an API's description only; a rule of their own refuses them."""


def test_each_pattern_has_words() -> None:
    patterns = {
        each.value
        for folder in ("services", "chassis/chassis/http")
        for path in (ROOT / folder).rglob("*.py")
        for each in ast.walk(ast.parse(path.read_text()))
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value.startswith("^")
    }
    fragments = {"^", "^\\s"}
    assert patterns - CODES - fragments - FORMS.keys() == set()
    assert len(patterns) > 5


def test_an_unknown_pattern_is_not_shown() -> None:
    assert "[" not in words_of("^[abc]$")
    assert all("[" not in words_of(pattern) for pattern in FORMS)
