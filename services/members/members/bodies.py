"""What members and staff may send: the shapes of bodies, and the rules that need no table. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from chassis.http.fields import TEXT_PATTERN, Remark, ShortText, Time
from members.domain import AMOUNT_MAX_MINOR, Account, AccountStatus
from members.phones import normal_phone
from members.references import is_reserved

CONFIG: Final = ConfigDict(extra="forbid")
BANDS_MAX: Final = 50
MEMBERS_MAX: Final = 200
"""Members of one bulk request, each of which begins a saga."""
TARGETS_MAX: Final = 10
PPM_MAX: Final = 1_000_000


def _capitals(value: object) -> object:
    return value.strip().upper() if isinstance(value, str) else value


def _new_member_id(text: str) -> str:
    if is_reserved(text):
        raise ValueError("It reads as a loan, a prompt or an account (DEP, SAV, SHR); choose another number")
    return text


CAPITALS: Final = BeforeValidator(_capitals)
Amount: TypeAlias = Annotated[int, Field(strict=True, ge=1, le=AMOUNT_MAX_MINOR, description="In minor units.")]
Optional: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=AMOUNT_MAX_MINOR, description="In minor units.")]
Ppm: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=PPM_MAX, description="Parts per million.")]
MemberId: TypeAlias = Annotated[str, CAPITALS, Field(pattern=r"^[A-Z0-9]{3,16}$")]
NewMemberId: TypeAlias = Annotated[MemberId, AfterValidator(_new_member_id)]
LoanId: TypeAlias = Annotated[str, CAPITALS, Field(pattern=r"^LN[0-9]{1,12}$")]
RunId: TypeAlias = Annotated[str, CAPITALS, Field(pattern=r"^[A-Z0-9-]{3,24}$")]
Phone: TypeAlias = Annotated[
    str, Field(min_length=9, max_length=32, pattern=TEXT_PATTERN), AfterValidator(normal_phone)
]
TargetText: TypeAlias = Annotated[
    str, CAPITALS, Field(pattern=r"^(|SAVINGS|DEPOSITS|SHARES|LN[0-9]{1,12})$", description="Empty: the policy.")
]
Provider: TypeAlias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Digits: TypeAlias = Annotated[str, Field(pattern=r"^[0-9]{5,7}$")]
PolicyName: TypeAlias = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Destination: TypeAlias = Literal["SAVINGS", "SHARES", "MOBILE"]
Language: TypeAlias = Literal["en", "sw"]
LoanPart: TypeAlias = Literal["PENALTIES", "FEES", "INTEREST", "PRINCIPAL"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberBody:
    """A member to register. ``opening_*`` is what the member holds from before, for dividends alone."""

    __pydantic_config__ = CONFIG

    member_id: NewMemberId
    name: ShortText
    phone: Phone
    language: Language = "en"
    policy: PolicyName = "standard"
    destination: Destination = "SAVINGS"
    day_max_minor: Amount | None = None
    opening_shares_minor: Optional = 0
    opening_deposits_minor: Optional = 0


Members: TypeAlias = Annotated[tuple[MemberBody, ...], Field(min_length=1, max_length=MEMBERS_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeBody:
    """What is to change of a member. What is left out stays."""

    __pydantic_config__ = CONFIG

    phone: Phone | None = None
    destination: Destination | None = None
    language: Language | None = None
    policy: PolicyName | None = None
    day_max_minor: Amount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneBody:
    """Another phone of a member."""

    __pydantic_config__ = CONFIG

    phone: Phone


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusBody:
    """Another status of a member, or of one account."""

    __pydantic_config__ = CONFIG

    status: AccountStatus
    account: Account | None = None
    reason: Remark


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionBody:
    """A prompt to pay on a phone."""

    __pydantic_config__ = CONFIG

    member_id: MemberId
    amount_minor: Amount
    phone: Phone | None = None
    target: TargetText = ""
    provider: Provider | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalBody:
    """Savings to be paid to one of the member's phones."""

    __pydantic_config__ = CONFIG

    member_id: MemberId
    amount_minor: Amount
    phone: Phone | None = None
    provider: Provider | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RepaymentBody:
    """A repayment of a loan from savings."""

    __pydantic_config__ = CONFIG

    member_id: MemberId
    loan_id: LoanId
    amount_minor: Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonBody:
    """Why."""

    __pydantic_config__ = CONFIG

    reason: Remark


@dataclass(frozen=True, slots=True, kw_only=True)
class LoanBody:
    """A loan that a member applies for."""

    __pydantic_config__ = CONFIG

    loan_id: LoanId
    member_id: MemberId
    principal_minor: Amount
    interest_ppm: Ppm
    term_months: Annotated[int, Field(strict=True, ge=1, le=360)]
    loan_fee_minor: Optional = 0
    penalty_ppm: Ppm = 0
    phone: Phone | None = None
    provider: Provider | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentBody:
    """Whose a receipt is, and where it goes; an empty target is the member's policy."""

    __pydantic_config__ = CONFIG

    member_id: MemberId
    target: TargetText = ""
    reason: Remark
    short_code: Digits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnBody:
    """Why a receipt goes back to its payer."""

    __pydantic_config__ = CONFIG

    reason: Remark
    short_code: Digits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBody:
    """A dividend run to compute. Rates are a year's, on shares and on deposits."""

    __pydantic_config__ = CONFIG

    run_id: RunId
    year: Annotated[int, Field(strict=True, ge=2000, le=2199)]
    dividend_ppm: Ppm
    rebate_ppm: Ppm
    regulator_reference: ShortText
    meeting_reference: ShortText
    reason: Remark
    provider: Provider | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalBody:
    """The hash of the lines that are approved, and why."""

    __pydantic_config__ = CONFIG

    lines_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    reason: Remark


@dataclass(frozen=True, slots=True, kw_only=True)
class BandBody:
    """A fee up to an amount."""

    __pydantic_config__ = CONFIG

    up_to_minor: Amount
    fee_minor: Optional


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffBody:
    """Fees, limits and taxes from a time on."""

    __pydantic_config__ = CONFIG

    valid_from: Time
    withdrawal_bands: Annotated[tuple[BandBody, ...], Field(max_length=BANDS_MAX)]
    payout_bands: Annotated[tuple[BandBody, ...], Field(max_length=BANDS_MAX)]
    excise_ppm: Ppm
    payout_min_minor: Amount
    payout_max_minor: Amount
    phone_day_max_minor: Amount
    prompt_min_minor: Amount
    prompt_max_minor: Amount
    repeat_within_s: Annotated[int, Field(strict=True, ge=0, le=3_600)]
    dividend_tax_ppm: Ppm
    rebate_tax_ppm: Ppm


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTargetBody:
    """A place in the order of a policy."""

    __pydantic_config__ = CONFIG

    kind: Literal["LOAN", "SHARES", "DEPOSITS", "SAVINGS"]
    limit_minor: Amount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyBody:
    """Another version of an allocation policy."""

    __pydantic_config__ = CONFIG

    name: PolicyName
    valid_from: Time
    loan_order: Annotated[tuple[LoanPart, ...], Field(min_length=4, max_length=4)]
    targets: Annotated[tuple[PolicyTargetBody, ...], Field(min_length=1, max_length=TARGETS_MAX)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortCodeBody:
    """A short code of ours. The lowest rank of those that are open is used by default."""

    __pydantic_config__ = CONFIG

    provider: Provider
    currency: Annotated[str, Field(pattern=r"^KES$")] = "KES"
    is_open: Annotated[bool, Field(strict=True)] = True
    rank: Annotated[int, Field(strict=True, ge=0, le=1_000)] = 0
