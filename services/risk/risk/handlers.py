"""Risk's handlers."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Connection

from chassis.saga.steps import Compensation, Handler, Step
from messages.risk import ValidationWithdrawn, WithdrawValidation
from risk import risk_metrics
from risk.domain import Validations, restored, validate, withdraw
from risk.rule_sets import RuleSets
from risk.sagas import payment
from risk.tables import load_withdrawals, lock_subjects, lock_windows, save_decisions, save_withdrawals

VALIDATE_PAYMENT = "validate_payment"


def handlers(rules: RuleSets) -> tuple[Handler, ...]:
    """Return the handlers that decide by these rules."""
    return (
        Step(
            name=VALIDATE_PAYMENT,
            triggers=(payment.VALIDATION,),
            load=partial(lock_windows, rules),
            decide=validate,
            save=_save,
            restore=restored,
            lock=lock_subjects,
            compensation=Compensation(
                on=WithdrawValidation,
                undoes=(VALIDATE_PAYMENT,),
                load=load_withdrawals,
                decide=withdraw,
                save=save_withdrawals,
                replies=(ValidationWithdrawn,),
                lock=lock_subjects,
            ),
        ),
    )


def _save(batch: Validations, tx: Connection) -> None:
    save_decisions(batch, tx)
    risk_metrics.count(each.decision for each in batch.decided)
