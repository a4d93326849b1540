"""What a run does, chosen by a seed: its members, and which of them pays in, takes out or repays when. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

HOURS: Final = (
    1, 1, 1, 1, 1, 2, 4, 8, 8, 6, 14, 16, 12, 8, 6, 6, 8, 14, 22, 26, 20, 12, 5, 2,
)  # fmt: skip
"""How much happens in each hour: at the end of the month salaries come before noon; in the evening people are home."""
FIRST_NAMES: Final = ("Achieng", "Wanjiru", "Kamau", "Otieno", "Chebet", "Mwende", "Njeri", "Baraka", "Halima", "Juma")
LAST_NAMES: Final = ("Mutua", "Odhiambo", "Kiptoo", "Wambui", "Hassan", "Omondi", "Maina", "Cherono", "Ali", "Nyambura")
WITHDRAWN, PROMPTED, REPAID, FROM_SAVINGS = 0.20, 0.12, 0.08, 0.04
"""Shares of what is planned; the rest is paid in without a prompt."""
ODD, UNKNOWN = 0.08, 0.02
"""Shares of the typed references that are written oddly but certain, and that name no member."""
PHONES: Final = (("wrong_pin", 0.03), ("cancel", 0.05), ("no_answer", 0.03))
"""Shares of the prompts whose phone answers otherwise than by paying."""
PAID_AFTER_CANCEL: Final = 0.4
"""Share of the cancelled prompts that are paid all the same."""
LOAN_MIN, LOAN_MAX = 5_000, 20_000
PAID_IN: Final = (200, 500, 1_000, 1_500, 2_500, 5_000)
TAKEN_OUT: Final = (100, 250, 400, 700)
BEYOND: Final = 0.1
"""Share of the withdrawals by members who may have too little, whom the ledger refuses."""
FEES: Final = 100
"""More than the fees of a withdrawal, in shillings."""
MEMBERS_WITH_A_LOAN: Final = 20
"""One of so many members has one."""


class Kind(StrEnum):
    """What a member does; the last one happens to treasury, which does not know of it."""

    PAY = "PAY"
    PROMPT = "PROMPT"
    WITHDRAW = "WITHDRAW"
    REPAY = "REPAY"
    REPAY_FROM_SAVINGS = "REPAY_FROM_SAVINGS"
    FLOAT_GONE = "FLOAT_GONE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What one member does at a moment of the day, of which ``at`` is the share that is over. Amounts in shillings."""

    number: int
    at: float
    kind: Kind
    member_id: str
    phone: str
    amount: int
    reference: str = ""
    loan_id: str = ""
    answer: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """A loan that is paid out before the day. ``principal`` is in shillings."""

    loan_id: str
    member_id: str
    principal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The members as they are registered, their loans, and what they do in the order of its time.

    ``beside`` are the withdrawals while dividends are paid.
    """

    members: Sequence[Mapping[str, Any]]
    loans: Sequence[Loan]
    acts: Sequence[Act]
    beside: Sequence[Act]

    @property
    def ids(self) -> list[str]:
        """The members' numbers."""
        return [str(each["member_id"]) for each in self.members]


def plan(*, members: int, acts: int, lines: int, seed: int, run: int) -> Plan:
    """Return the plan. ``run`` is in every number and phone, so that each run has members of its own.

    ``lines`` are those of the dividend run, two for each member. Where members are fewer, others are registered who
    hold something and do nothing; what is due to them goes to savings.
    """
    chance = random.Random(f"sacco {seed}")
    people = [_member(number, run, chance, is_active=number < members) for number in range(max(members, lines // 2))]
    active = people[:members]
    loans = [
        Loan(
            loan_id=f"LN{run % 10**7:07}{number:04}",
            member_id=str(person["member_id"]),
            principal=chance.randrange(LOAN_MIN, LOAN_MAX, 500),
        )
        for number, person in enumerate(active[:: max(1, MEMBERS_WITH_A_LOAN)])
    ]
    savings = Savings(active, chance)
    planned = list(_acts(active, loans, acts, savings, chance))
    planned.insert(len(planned) // 2, _float_gone(planned[len(planned) // 2].at))
    return Plan(members=people, loans=loans, acts=planned, beside=list(_beside(savings, acts, chance)))


def _float_gone(at: float) -> Act:
    return Act(number=0, at=at, kind=Kind.FLOAT_GONE, member_id="", phone="", amount=0)


def _beside(savings: Savings, acts: int, chance: random.Random) -> Iterator[Act]:
    count = max(10, acts // 30)
    for number in range(count):
        amount = chance.choice(TAKEN_OUT)
        person = savings.take(amount)
        yield Act(
            number=acts + number, at=number / count, kind=Kind.WITHDRAW, member_id=str(person["member_id"]),
            phone=str(person["phone"]), amount=amount,
        )  # fmt: skip


class Savings:
    """What members have paid into their savings so far, as far as the plan knows, in shillings."""

    def __init__(self, active: Sequence[Mapping[str, Any]], chance: random.Random) -> None:
        self._people = {str(each["member_id"]): each for each in active}
        self._chance = chance
        self._saved: dict[str, int] = {}

    def put(self, member_id: str, amount: int) -> None:
        """Add what a member pays in."""
        self._saved[member_id] = self._saved.get(member_id, 0) + amount

    def take(self, amount: int) -> Mapping[str, Any]:
        """Return who takes so much out: mostly one who has it."""
        able = [member_id for member_id, saved in self._saved.items() if saved >= amount + FEES]
        if not able or self._chance.random() < BEYOND:
            return self._chance.choice(list(self._people.values()))
        member_id = self._chance.choice(able)
        self._saved[member_id] -= amount + FEES
        return self._people[member_id]


def _member(number: int, run: int, chance: random.Random, *, is_active: bool) -> Mapping[str, Any]:
    return {
        "member_id": f"{base36(run)}{number:05}",
        "name": f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}",
        "phone": f"2547{(run * 7919 + number) % 10**8:08}",
        "language": chance.choice(("en", "sw")),
        "destination": chance.choice(("MOBILE", "SAVINGS", "SHARES")) if is_active else "SAVINGS",
        "opening_shares_minor": chance.randrange(2_000_00, 60_000_00, 100_00),
        "opening_deposits_minor": chance.randrange(5_000_00, 200_000_00, 100_00),
    }


def base36(number: int) -> str:
    """Return a number in digits and capitals."""
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[digit] + digits
    return digits or "0"


def _acts(
    active: Sequence[Mapping[str, Any]], loans: Sequence[Loan], count: int, savings: Savings, chance: random.Random
) -> Iterator[Act]:
    """Yield what happens. Who takes out more than was paid in is refused by the ledger."""
    by_member = {each["member_id"]: each for each in active}
    moments = sorted(_moment(chance) for _ in range(count))
    for number, at in enumerate(moments):
        person = chance.choice(active)
        phone, member_id = str(person["phone"]), str(person["member_id"])
        draw = chance.random()
        if draw < WITHDRAWN and number > count // 10:
            amount = chance.choice(TAKEN_OUT)
            taker = savings.take(amount)
            yield Act(
                number=number, at=at, kind=Kind.WITHDRAW, member_id=str(taker["member_id"]),
                phone=str(taker["phone"]), amount=amount,
            )  # fmt: skip
        elif draw < WITHDRAWN + PROMPTED:
            yield Act(
                number=number, at=at, kind=Kind.PROMPT, member_id=member_id, phone=phone,
                amount=chance.choice(PAID_IN), answer=_answer(chance),
            )  # fmt: skip
        elif draw < WITHDRAWN + PROMPTED + REPAID and loans:
            loan = chance.choice(loans)
            owner = by_member[loan.member_id]
            from_savings = chance.random() < FROM_SAVINGS / REPAID
            yield Act(
                number=number, at=at, kind=Kind.REPAY_FROM_SAVINGS if from_savings else Kind.REPAY,
                member_id=loan.member_id, phone=str(owner["phone"]), amount=chance.choice(TAKEN_OUT),
                reference=_typed(loan.loan_id, chance), loan_id=loan.loan_id,
            )  # fmt: skip
        else:
            account, amount = chance.choice(("", "SAV", "DEP", "SHR")), chance.choice(PAID_IN)
            if account == "SAV":  # what names only the member goes to loans first
                savings.put(member_id, amount)
            yield Act(
                number=number, at=at, kind=Kind.PAY, member_id=member_id, phone=phone,
                amount=amount, reference=_typed(account + member_id, chance),
            )  # fmt: skip


def _moment(chance: random.Random) -> float:
    (hour,) = chance.choices(range(len(HOURS)), HOURS)
    return (hour + chance.random()) / len(HOURS)


def _answer(chance: random.Random) -> Mapping[str, Any]:
    draw = chance.random()
    for answer, share in PHONES:
        if draw < share:
            late = answer == "cancel" and chance.random() < PAID_AFTER_CANCEL
            return {"answer": answer, "paid_after_s": 5 if late else None}
        draw -= share
    return {"answer": "pay"}


def _typed(reference: str, chance: random.Random) -> str:
    """Return a reference as people type it: mostly right, sometimes odd, and sometimes of no member."""
    draw = chance.random()
    if draw < UNKNOWN:
        return chance.choice((reference[:-1], "school fees", "0", "my savings pls", "ASANTE"))
    if draw < UNKNOWN + ODD:
        return chance.choice((reference.lower(), f" {reference} ", f"{reference[:3]}-{reference[3:]}", f"#{reference}"))
    return reference
