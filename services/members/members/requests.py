"""What a member may request: the door's rules for collections, withdrawals and repayments. Pure.

A request is refused at once, with the reason and what to do. What only balances decide is the ledger's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from members.attribution import OPEN_LOANS, KnownLoan
from members.domain import Account, AccountStatus, MemberState, day_of, is_whole, start_of
from members.terms import Tariff

COLLECTION, WITHDRAWAL, REPAYMENT = "collection", "withdrawal", "repayment"
SHORT_OF: Final = {AccountStatus.BLOCKED: "blocked", AccountStatus.DORMANT: "dormant", AccountStatus.DECEASED: "closed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is requested for a member. ``phone`` and ``target`` are empty where the member's own hold.

    ``target`` is an account, or a loan's number.
    """

    kind: str
    member_id: str
    amount_minor: int
    phone: str = ""
    target: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is refused, and by which field; ``open_id`` is the request that is in the way."""

    code: str
    detail: str
    field: str = ""
    open_id: str | None = None
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Requester:
    """A member as the door knows it."""

    member_id: str
    state: MemberState
    status: AccountStatus
    phone: str
    phones: Collection[str]
    accounts: Mapping[str, AccountStatus]
    day_max_minor: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """An earlier request: an open one of the last minutes, or a withdrawal of the day that has not failed."""

    kind: str
    id: str
    member_id: str
    phone: str
    amount_minor: int
    requested_at: datetime
    is_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A short code through which money may come and go."""

    short_code: str
    provider: str
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A request that is taken, with all that its event needs."""

    request: Request
    way: Way
    phone: str
    fee_minor: int = 0
    excise_minor: int = 0


@dataclass(slots=True, kw_only=True)
class Door:
    """Decides about the requests of one batch, one after the other; each counts for those after it."""

    now: datetime
    tariff: Tariff
    ways: Sequence[Way]
    requesters: Mapping[str, Requester]
    loans: Mapping[str, KnownLoan]
    earlier: list[Earlier] = field(default_factory=list)

    def decide(self, request: Request) -> Admitted | Refusal:
        """Return the request as it is taken, or why not. It counts once :meth:`note` has its id."""
        requester = self.requesters.get(request.member_id)
        if requester is None:
            return Refusal(
                code="unknown_member", field="member_id", detail="There is no such member; check the number."
            )
        refusal = self._member(requester) or self._amount(request) or self._repeated(request)
        if refusal is not None:
            return refusal
        if request.kind == REPAYMENT:
            return self._repayment(request, requester)
        way = next((each for each in self.ways if request.provider in ("", each.provider)), None)
        if way is None:
            detail = "No short code of ours is open there; leave it out, or name another one."
            return Refusal(code="no_short_code", field="provider", detail=detail)
        if request.kind == COLLECTION:
            return self._collection(request, requester, way)
        return self._withdrawal(request, requester, way)

    def note(self, admitted: Admitted, request_id: str) -> None:
        """Let a request that is taken count for those after it."""
        self.earlier.append(
            Earlier(
                kind=admitted.request.kind,
                id=request_id,
                member_id=admitted.request.member_id,
                phone=admitted.phone or admitted.request.target,
                amount_minor=admitted.request.amount_minor,
                requested_at=self.now,
                is_open=True,
            )
        )

    def _member(self, requester: Requester) -> Refusal | None:
        if requester.state is not MemberState.ACTIVE:
            detail = "The member's accounts are not open yet; send the request again once they are."
            return Refusal(code="accounts_not_open", detail=detail)
        if requester.status is not AccountStatus.ACTIVE:
            return _closed(requester.status, "The member")
        return None

    def _amount(self, request: Request) -> Refusal | None:
        if request.kind == REPAYMENT:
            return None
        if not is_whole(request.amount_minor):
            detail = "Not whole shillings; a provider moves no cents, so send a multiple of 100."
            return Refusal(code="not_whole", field="amount_minor", detail=detail)
        least, most = (
            (self.tariff.prompt_min_minor, self.tariff.prompt_max_minor)
            if request.kind == COLLECTION
            else (self.tariff.payout_min_minor, self.tariff.payout_max_minor)
        )
        if not least <= request.amount_minor <= most:
            detail = f"Not between {least} and {most}, the limits of one {request.kind}; send an amount within them."
            return Refusal(code="outside_limits", field="amount_minor", detail=detail)
        return None

    def _repeated(self, request: Request) -> Refusal | None:
        """Refuse what looks like the same request once more: the phone may ring, although its first answer was lost."""
        window = timedelta(seconds=self.tariff.repeat_within_s)
        for each in self.earlier:
            is_same = (each.kind, each.member_id, each.amount_minor) == (
                request.kind, request.member_id, request.amount_minor,
            )  # fmt: skip
            if is_same and each.is_open and self.now - each.requested_at < window:
                left_s = max(1, int((each.requested_at + window - self.now).total_seconds()) + 1)
                detail = (
                    f"A {request.kind} of this member and amount is under way; read it. Another one is taken in "
                    f"{left_s} s, or once this one has ended."
                )
                return Refusal(code="request_open", detail=detail, open_id=each.id, retry_after_s=left_s)
        return None

    def _collection(self, request: Request, requester: Requester, way: Way) -> Admitted | Refusal:
        if request.target in Account.__members__:
            status = requester.accounts[request.target]
            if status is not AccountStatus.ACTIVE:
                return _closed(status, f"The account {request.target}", field="target")
        elif request.target and (refusal := self._loan(request)) is not None:
            return refusal
        return Admitted(request=request, way=way, phone=request.phone or requester.phone)

    def _withdrawal(self, request: Request, requester: Requester, way: Way) -> Admitted | Refusal:
        status = requester.accounts[Account.SAVINGS]
        if status is not AccountStatus.ACTIVE:
            return _closed(status, "The savings account")
        phone = request.phone or requester.phone
        if phone not in requester.phones:
            detail = "Not a phone of the member; money is paid to the member's own phones alone. Have it added first."
            return Refusal(code="foreign_phone", field="phone", detail=detail)
        refusal = self._day(request, requester, phone)
        if refusal is not None:
            return refusal
        fee_minor = self.tariff.fee_minor(request.amount_minor)
        excise_minor = self.tariff.excise_minor(fee_minor)
        return Admitted(request=request, way=way, phone=phone, fee_minor=fee_minor, excise_minor=excise_minor)

    def _day(self, request: Request, requester: Requester, phone: str) -> Refusal | None:
        begins = start_of(day_of(self.now))
        today = [each for each in self.earlier if each.kind == WITHDRAWAL and each.requested_at >= begins]
        to_phone = sum(each.amount_minor for each in today if each.phone == phone)
        of_member = sum(each.amount_minor for each in today if each.member_id == request.member_id)
        limits = [(to_phone, self.tariff.phone_day_max_minor, "the phone may receive")]
        if requester.day_max_minor is not None:
            limits.append((of_member, requester.day_max_minor, "the member may withdraw"))
        for used, most, what in limits:
            if used + request.amount_minor > most:
                detail = f"More than {what} in a day: {most}, of which {max(0, most - used)} are left until midnight."
                return Refusal(code="day_limit", field="amount_minor", detail=detail)
        return None

    def _repayment(self, request: Request, requester: Requester) -> Admitted | Refusal:
        status = requester.accounts[Account.SAVINGS]
        if status is not AccountStatus.ACTIVE:
            return _closed(status, "The savings account")
        refusal = self._loan(request)
        if refusal is not None:
            return refusal
        way = self.ways[0] if self.ways else Way(short_code="", provider="", currency="KES")
        return Admitted(request=request, way=way, phone="")

    def _loan(self, request: Request) -> Refusal | None:
        loan = self.loans.get(request.target)
        field_name = "target" if request.kind == COLLECTION else "loan_id"
        if loan is None or loan.member_id != request.member_id:
            detail = "The member has no such loan; check the number."
            return Refusal(code="unknown_loan", field=field_name, detail=detail)
        if loan.state not in OPEN_LOANS:
            detail = f"The loan is {loan.state}, so nothing is paid to it; name an account."
            return Refusal(code="loan_closed", field=field_name, detail=detail)
        return None


def _closed(status: AccountStatus, what: str, field: str = "") -> Refusal:
    detail = f"{what} is {SHORT_OF[status]}, so it neither pays nor receives; ask the office about it."
    return Refusal(code=f"account_{status.lower()}", field=field, detail=detail)
