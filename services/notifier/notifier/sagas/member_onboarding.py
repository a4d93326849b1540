"""The saga of a new member, whose beginning says where the member's texts go."""

from __future__ import annotations

from typing import Final

SAGAS: Final = frozenset({("member_onboarding", 1)})
