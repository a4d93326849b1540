"""What members are sent by text, in the language that they chose. Pure.

A text is one or two parts of 160 letters that every phone shows. It has no PIN, and asks for none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from chassis.saga.triggers import StepRequest
from chassis.values.money import shown
from chassis.wire.envelope import derived_id

NOTIFY_MEMBER: Final = "notify_member"
LENGTH_MAX: Final = 320
"""Two parts; what is longer is cut."""
Fields: TypeAlias = Mapping[str, str]


class Language(StrEnum):
    """A language of texts."""

    ENGLISH = "en"
    SWAHILI = "sw"


class TextKind(StrEnum):
    """What a text says."""

    RECEIPT_ALLOCATED = "RECEIPT_ALLOCATED"
    RECEIPT_WAITING = "RECEIPT_WAITING"
    RECEIPT_RETURNED = "RECEIPT_RETURNED"
    LOAN_REPAID = "LOAN_REPAID"
    WITHDRAWAL_PAID = "WITHDRAWAL_PAID"
    WITHDRAWAL_FAILED = "WITHDRAWAL_FAILED"
    WITHDRAWAL_CANCELLED = "WITHDRAWAL_CANCELLED"
    LOAN_PAID_OUT = "LOAN_PAID_OUT"
    LOAN_PAYOUT_FAILED = "LOAN_PAYOUT_FAILED"
    DIVIDEND_PAID = "DIVIDEND_PAID"
    DIVIDEND_PAYOUT_FAILED = "DIVIDEND_PAYOUT_FAILED"


class TextState(StrEnum):
    """Where a text is."""

    DUE = "DUE"
    SENT = "SENT"
    GIVEN_UP = "GIVEN_UP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """A text in each language."""

    english: str
    swahili: str

    def in_language(self, language: str) -> str:
        """Return the text in a language; English for one that we do not have."""
        return self.swahili if language == Language.SWAHILI else self.english


WORDINGS: Final[Mapping[TextKind, Wording]] = {
    TextKind.RECEIPT_ALLOCATED: Wording(
        english="{receipt} confirmed. We received {amount}: {allocations}.{balance}",
        swahili="{receipt} imethibitishwa. Tumepokea {amount}: {allocations}.{balance}",
    ),
    TextKind.RECEIPT_WAITING: Wording(
        english="{receipt}: we received {amount} and are finding out which account it is for. It is safe with us.",
        swahili="{receipt}: tumepokea {amount} na tunatafuta ni ya akaunti gani. Pesa ziko salama kwetu.",
    ),
    TextKind.RECEIPT_RETURNED: Wording(
        english="{receipt}: {amount} was sent back to the phone that paid it.",
        swahili="{receipt}: {amount} imerudishwa kwa simu iliyolipa.",
    ),
    TextKind.LOAN_REPAID: Wording(
        english="Loan {loan}: {amount} was repaid from your savings: {allocations}.{balance}",
        swahili="Mkopo {loan}: {amount} imelipwa kutoka akiba yako: {allocations}.{balance}",
    ),
    TextKind.WITHDRAWAL_PAID: Wording(
        english="{receipt} confirmed. {amount} was sent to your phone. Fee with duty: {fee}.",
        swahili="{receipt} imethibitishwa. {amount} imetumwa kwa simu yako. Ada na ushuru: {fee}.",
    ),
    TextKind.WITHDRAWAL_FAILED: Wording(
        english="Your withdrawal of {amount} was not paid. What was held for it is in your savings.",
        swahili="Pesa zako {amount} hazikutumwa. Kiasi kilichozuiwa kiko kwenye akiba yako.",
    ),
    TextKind.WITHDRAWAL_CANCELLED: Wording(
        english="Your withdrawal of {amount} is cancelled. What was held for it is in your savings.",
        swahili="Utoaji wa {amount} umeghairiwa. Kiasi kilichozuiwa kiko kwenye akiba yako.",
    ),
    TextKind.LOAN_PAID_OUT: Wording(
        english="{receipt} confirmed. {amount} of your loan {loan} was sent to your phone.",
        swahili="{receipt} imethibitishwa. {amount} ya mkopo wako {loan} imetumwa kwa simu yako.",
    ),
    TextKind.LOAN_PAYOUT_FAILED: Wording(
        english="{amount} of your loan {loan} was not paid out. We look into it and will contact you.",
        swahili="{amount} ya mkopo wako {loan} haikutumwa. Tunashughulikia na tutawasiliana nawe.",
    ),
    TextKind.DIVIDEND_PAID: Wording(
        english="{receipt} confirmed. Your dividend of {amount} was sent to your phone.",
        swahili="{receipt} imethibitishwa. Gawio lako la {amount} limetumwa kwa simu yako.",
    ),
    TextKind.DIVIDEND_PAYOUT_FAILED: Wording(
        english="Your dividend of {amount} was not paid to your phone. It goes to your savings.",
        swahili="Gawio lako la {amount} halikutumwa kwa simu yako. Litawekwa kwenye akiba yako.",
    ),
}
PARTS: Final[Mapping[str, Wording]] = {
    "PENALTIES": Wording(english="penalties", swahili="adhabu"),
    "FEES": Wording(english="fees", swahili="ada"),
    "INTEREST": Wording(english="interest", swahili="riba"),
    "PRINCIPAL": Wording(english="loan", swahili="mkopo"),
    "SHARES": Wording(english="shares", swahili="hisa"),
    "DEPOSITS": Wording(english="deposits", swahili="amana"),
    "SAVINGS": Wording(english="savings", swahili="akiba"),
}
BALANCE: Final = Wording(english=" Loan balance {balance}.", swahili=" Salio la mkopo {balance}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An amount in a currency."""

    amount_minor: int
    currency: str

    def __str__(self) -> str:
        return shown(self.amount_minor, self.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocated:
    """What went where, of a receipt or a repayment; ``balance`` is what is left of the loan."""

    split: Sequence[tuple[str, Money]]
    balance: Money | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Where a member's texts go, and in which language."""

    member_id: str
    phone: str
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a member is notified of. ``saga_id`` is what it is about; each saga has each kind once."""

    saga_id: str
    member_id: str
    kind: TextKind
    fields: Fields
    allocated: Allocated | None = None

    @property
    def text_id(self) -> str:
        """The id of its text: always the same one for it."""
        return derived_id("member text", self.saga_id, self.kind.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberText:
    """A text as it is stored."""

    text_id: str
    saga_id: str
    member_id: str
    kind: str
    phone: str
    language: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingText:
    """A text in one language, as it waits for its member's registration."""

    text_id: str
    language: str
    saga_id: str
    member_id: str
    kind: str
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyMember(StepRequest):
    """Store what a member is sent about a saga; no notice where it is not known whom it is about."""

    notice: Notice | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSubject:
    """What a saga that may fail is about, which its failure does not say."""

    saga_id: str
    member_id: str
    fails_as: TextKind
    cancelled_as: TextKind
    fields: Fields

    def failed(self, *, is_cancelled: bool) -> Notice:
        """Return what the member is notified of once the saga has failed."""
        kind = self.cancelled_as if is_cancelled else self.fails_as
        return Notice(saga_id=self.saga_id, member_id=self.member_id, kind=kind, fields=self.fields)


def written(notice: Notice, contact: Contact) -> MemberText:
    """Return the text of a notice in the member's language."""
    return MemberText(
        text_id=notice.text_id,
        saga_id=notice.saga_id,
        member_id=notice.member_id,
        kind=notice.kind.value,
        phone=contact.phone,
        language=contact.language,
        body=_body(notice, contact.language),
    )


def waiting(notice: Notice) -> list[WaitingText]:
    """Return the texts of a notice to a member whose language is not known yet."""
    return [
        WaitingText(
            text_id=notice.text_id,
            language=language.value,
            saga_id=notice.saga_id,
            member_id=notice.member_id,
            kind=notice.kind.value,
            body=_body(notice, language),
        )
        for language in Language
    ]


def _body(notice: Notice, language: str) -> str:
    fields = dict(notice.fields)
    if (allocated := notice.allocated) is not None:
        split = [f"{PARTS[kind].in_language(language)} {money}" for kind, money in allocated.split]
        balance = BALANCE.in_language(language)
        fields["allocations"] = ", ".join(split)
        fields["balance"] = "" if allocated.balance is None else balance.format(balance=allocated.balance)
    return WORDINGS[notice.kind].in_language(language).format_map(fields)[:LENGTH_MAX]


def masked(phone: str) -> str:
    """Return a phone number of which one sees the country and the last three digits."""
    return f"{phone[:3]}{'*' * max(0, len(phone) - 6)}{phone[-3:]}" if len(phone) > 6 else "***"
