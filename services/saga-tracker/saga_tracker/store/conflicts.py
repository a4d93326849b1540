"""The error of a write that comes after another worker's."""

from __future__ import annotations


class Overtaken(Exception):
    """Another worker has stored something since it was read; a repetition reads what is stored now."""
