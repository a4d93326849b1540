"""The invariants of what sagas book in the ledger: an order's posting, and a manual posting by two people."""

from __future__ import annotations

from baraza.audit.invariant import Invariant

LEDGER_BALANCES = Invariant(
    name="ledger-balances",
    rule="Debits equal credits for each step, which is posted once and reversed at most once; an order's is its price.",
    checked="SELECT count(*) FROM ledger",
    offenders="""
        SELECT saga_id, step || ': ' || debit_minor || ' debited, ' || credit_minor || ' credited' FROM ledger
        WHERE debit_minor <> credit_minor
        UNION ALL
        SELECT saga_id, step || ': ' || posts || ' postings and ' || reversals || ' reversals' FROM ledger
        WHERE posts <> 1 OR reversals NOT IN (0, 1)
        UNION ALL
        SELECT saga_id, receivable_minor || ' receivable, ' || payable_minor || ' payable'
        FROM ledger JOIN orders ON order_id = saga_id
        WHERE receivable_minor <> iif(reversals = 0, payable_minor, 0)
        UNION ALL
        SELECT saga_id, points_minor || ' paid by points, ' || (total_minor - payable_minor) || ' by its price'
        FROM ledger JOIN orders ON order_id = saga_id
        WHERE points_minor NOT IN (0, total_minor - payable_minor)  -- 0: by a release that posted no points
    """,
)

LEDGER_IS_THE_GATEWAYS = Invariant(
    name="ledger-is-the-gateways",
    rule="The ledger's receivable is what the gateway settled net; a parked order may lack it, or be unsettled.",
    checked="SELECT count(*) FROM settled",
    offenders="""
        SELECT saga_id, coalesce(receivable_minor, 0) || ' receivable, ' || coalesce(captured_minor - refunded_minor, 0)
               || ' settled'
        FROM (SELECT saga_id FROM posted UNION SELECT saga_id FROM settled)
             LEFT JOIN posted USING (saga_id) LEFT JOIN settled USING (saga_id) LEFT JOIN sagas USING (saga_id)
        WHERE coalesce(receivable_minor, 0) <> coalesce(captured_minor - refunded_minor, 0)
          AND saga_id NOT IN (SELECT order_id FROM refunding)
          AND (sagas.state IS NOT 'NEEDS_REVIEW'
               OR coalesce(receivable_minor, 0) <> 0
                  AND (saga_id, 'payment') NOT IN unsettled AND (saga_id, 'ledger') NOT IN unsettled)
    """,
)

POSTED_BY_TWO = Invariant(
    name="posted-by-two",
    rule="A manual posting was approved by another person than the one who proposed it, and stands as its saga ended.",
    checked="SELECT count(*) FROM manual_postings",
    offenders="""
        SELECT saga_id, 'was approved by ' || coalesce(decided_by, 'no one')
        FROM manual_postings
        WHERE state NOT IN ('PROPOSED', 'REFUSED') AND (decided_by IS NULL OR lower(decided_by) = lower(proposed_by))
        UNION ALL
        SELECT saga_id, 'the ledger has ' || manual_postings.state || ', the tracker '
               || coalesce(sagas.state, 'has no saga')
        FROM manual_postings LEFT JOIN sagas USING (saga_id)
        WHERE sagas.state IS NOT CASE manual_postings.state WHEN 'POSTED' THEN 'CONFIRMED'
                                 WHEN 'FAILED' THEN 'CANCELLED_COMPENSATED'
                                 WHEN 'APPROVED' THEN 'NEEDS_REVIEW' END
        UNION ALL
        SELECT saga_id, posted || ' transfers stand, and it is ' || coalesce(state, 'no manual posting')
        FROM manual_transfers LEFT JOIN manual_postings USING (saga_id)
        WHERE posted <> iif(state IS 'POSTED', 1, 0) AND state IS NOT 'APPROVED'
        UNION ALL
        SELECT saga_id, 'is POSTED, and no transfer stands'
        FROM manual_postings
        WHERE state = 'POSTED' AND saga_id NOT IN (SELECT saga_id FROM manual_transfers WHERE posted = 1)
    """,
)
