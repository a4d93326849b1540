"""What must be true of merchants' payments: by the ledger, by our records of the gateways, and by the gateways' own.

A payment is judged by its sagas. One whose saga is parked, or waits for an outcome, may be ahead of the other records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from baraza.audit.invariant import Invariant

BOOKED_PAYMENTS = """
    WITH moved AS (
        SELECT DISTINCT saga_id, payment_id FROM transfers WHERE payment_id IS NOT NULL AND saga_id IS NOT NULL
    ), made AS (
        SELECT payment_id, saga_id FROM transfers WHERE payment_version = 1
    ), entered AS (
        SELECT moved.payment_id, accounts.code, amount_minor, transfers.kind = 'HOLD' AS is_hold,
               transfers.kind = 'HOLD' AND NOT EXISTS (
                   SELECT FROM transfers AS resolving
                   WHERE resolving.of_id = transfers.id AND resolving.kind IN ('POST', 'VOID')) AS is_open
        FROM moved JOIN transfers USING (saga_id) JOIN transfer_entries ON transfer_id = transfers.id
        JOIN accounts ON accounts.id = account_id
    ), summed AS (
        SELECT payment_id,
               sum(amount_minor) FILTER (WHERE NOT is_hold AND code = 'gateway_receivable') AS gateway_minor,
               -sum(amount_minor) FILTER (WHERE NOT is_hold AND code = 'fees') AS fees_minor,
               -sum(amount_minor) FILTER (
                   WHERE NOT is_hold AND code IN ('pending', 'available', 'reserve', 'receivable')) AS merchant_minor,
               -sum(amount_minor) FILTER (WHERE NOT is_hold AND code = 'captures_in_transit') AS captures_minor,
               -sum(amount_minor) FILTER (WHERE NOT is_hold AND code = 'refunds_in_transit') AS refunds_minor,
               -sum(amount_minor) FILTER (WHERE is_open AND code = 'captures_in_transit') AS held_captures_minor,
               -sum(amount_minor) FILTER (WHERE is_open AND code = 'refunds_in_transit') AS held_refunds_minor
        FROM entered GROUP BY payment_id
    )
    SELECT payment_id, saga_id, status, authorized_minor, captured_minor, fee_minor, refunding_minor, refunded_minor,
           disputed_minor,
           coalesce(gateway_minor, 0)::bigint, coalesce(fees_minor, 0)::bigint, coalesce(merchant_minor, 0)::bigint,
           coalesce(captures_minor, 0)::bigint, coalesce(refunds_minor, 0)::bigint,
           coalesce(held_captures_minor, 0)::bigint, coalesce(held_refunds_minor, 0)::bigint
    FROM payments LEFT JOIN made USING (payment_id) LEFT JOIN summed USING (payment_id)
    WHERE owner IS NOT NULL
"""
"""Every payment of a merchant: what the ledger says of it, and the sums of all that its sagas have booked."""

BOOKED_SAGAS = """
    SELECT saga_id, min(payment_id),
           count(*) FILTER (WHERE step = 'commit_ledger' AND kind IN ('TRANSFER', 'VOID') AND (entry_count > 0
                            OR kind = 'VOID' OR payment_status = 'AUTHORIZED'))
    FROM transfers WHERE payment_id IS NOT NULL AND saga_id IS NOT NULL GROUP BY saga_id
"""

GATEWAY_PAYMENTS = """
    SELECT payment_id::text, saga_id, account, gateway, gateway_payment_id, state, authorized_minor, captured_minor,
           refunded_minor
    FROM merchant_payments
"""
"""What payment knows of the payments at the gateways."""

OPEN_NOTICES = """
    SELECT id, payment_id::text, event, fate FROM gateway_notices WHERE decide_at IS NOT NULL OR fate = 'STRANGE'
"""
"""Webhooks about which nothing is decided, or a person decides."""

OPEN_EVIDENCE = """
    SELECT id, saga_id, step FROM evidence WHERE handled_at IS NULL AND saga_id IS NOT NULL
"""
"""Evidence that belongs to an attempt and is not handled. What matches none is listed for people."""

MERCHANT_EVENTS = """
    SELECT saga_id, count(*), count(*) FILTER (
        WHERE EXISTS (SELECT FROM endpoints WHERE endpoints.merchant_id = events.merchant_id
                      AND endpoints.is_live = events.is_live AND endpoints.state = 'ENABLED'
                      AND endpoints.created_at < events.created_at
                      AND (endpoints.types = '{}' OR events.type = ANY(endpoints.types))
                      AND NOT EXISTS (SELECT FROM deliveries WHERE deliveries.event_id = events.event_id
                                      AND deliveries.endpoint_id = endpoints.endpoint_id)))
    FROM events WHERE saga_id IS NOT NULL GROUP BY saga_id
"""
"""By saga, the events that its merchant gets, and how many of them lack a delivery to an endpoint that wants them."""

REQUESTED = "SELECT payment_id::text, saga_id, status, amount_minor, captured_minor FROM payments"
"""Payments as merchants see them."""

CHARGES_IN_PROCESS = """
    SELECT gateway, id, payment_id::text, is_open::int, authorized_minor, captured_minor, refunded_minor
    FROM merchant_charges
"""
BEGUN = """
    SELECT payment_id::text, saga_id FROM payments WHERE created_at > now() - interval '1 hour'
    UNION ALL
    SELECT payment_id::text, saga_id FROM operations WHERE created_at > now() - interval '1 hour'
"""
"""What merchants have requested lately. It is read last: where payments are requested meanwhile, the gateways' records
have some of which the ledger, which is read before, knows nothing yet."""

VALIDATED = "SELECT saga_id, step FROM validations WHERE state = 'COUNTED'"
"""What risk counts for its rules."""

TABLES = (
    ("risk", "validated", VALIDATED, "validations"),
    ("ledger", "booked_payments", BOOKED_PAYMENTS, "payment_refunds"),
    ("ledger", "booked_sagas", BOOKED_SAGAS, "payment_refunds"),
    ("payment", "gateway_payments", GATEWAY_PAYMENTS, "merchant_payments"),
    ("payment", "open_notices", OPEN_NOTICES, "gateway_notices"),
    ("payment", "open_evidence", OPEN_EVIDENCE, "evidence"),
    ("notifier", "merchant_events", MERCHANT_EVENTS, "deliveries"),
    ("merchant", "requested", REQUESTED, "worker_slots"),
)
"""By service, each with a table that its database has in a release with payments."""

SCHEMA = """
    CREATE TABLE booked_payments (
        payment_id PRIMARY KEY, saga_id, status, authorized_minor, captured_minor, fee_minor, refunding_minor,
        refunded_minor, disputed_minor, gateway_minor, fees_minor, merchant_minor, captures_in_transit_minor,
        refunds_in_transit_minor, held_captures_minor, held_refunds_minor
    ) WITHOUT ROWID;
    CREATE TABLE booked_sagas (saga_id PRIMARY KEY, payment_id, commits) WITHOUT ROWID;
    CREATE TABLE gateway_payments (
        payment_id PRIMARY KEY, saga_id, account, gateway, gateway_payment_id, state, authorized_minor, captured_minor,
        refunded_minor
    ) WITHOUT ROWID;
    CREATE TABLE open_notices (id PRIMARY KEY, payment_id, event, fate) WITHOUT ROWID;
    CREATE TABLE open_evidence (id PRIMARY KEY, saga_id, step) WITHOUT ROWID;
    CREATE TABLE merchant_events (saga_id PRIMARY KEY, events, undelivered) WITHOUT ROWID;
    CREATE TABLE requested (payment_id PRIMARY KEY, saga_id, status, amount_minor, captured_minor) WITHOUT ROWID;
    CREATE TABLE validated (saga_id, step, PRIMARY KEY (saga_id, step)) WITHOUT ROWID;
    CREATE TABLE begun (payment_id, saga_id PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE gateway_charges (
        gateway, id, payment_id, is_open, authorized_minor, captured_minor, refunded_minor, PRIMARY KEY (gateway, id)
    ) WITHOUT ROWID;
"""

VIEWS = """
    -- open_payments: payments of which a saga is under way, parked, frozen, in doubt or unknown to the tracker.
    -- charged_payments: by payment, what the gateways' own records have.
    CREATE INDEX booked_sagas_by_payment ON booked_sagas (payment_id);
    CREATE INDEX charges_by_payment ON gateway_charges (payment_id);
    CREATE TABLE open_payments (payment_id PRIMARY KEY) WITHOUT ROWID;
    INSERT INTO open_payments
    SELECT payment_id FROM booked_sagas LEFT JOIN sagas USING (saga_id)
    WHERE coalesce(state, '') NOT IN ('CONFIRMED', 'CANCELLED_COMPENSATED')
    UNION
    SELECT payment_id FROM gateway_payments LEFT JOIN sagas USING (saga_id)
    WHERE coalesce(sagas.state, '') NOT IN ('CONFIRMED', 'CANCELLED_COMPENSATED')
    UNION
    SELECT payment_id FROM begun LEFT JOIN sagas USING (saga_id)
    WHERE coalesce(state, '') NOT IN ('CONFIRMED', 'CANCELLED_COMPENSATED')
    UNION SELECT payment_id FROM open_notices WHERE payment_id IS NOT NULL;
    CREATE TABLE charged_payments (
        payment_id PRIMARY KEY, charges, captures, open, authorized_minor, captured_minor, refunded_minor
    ) WITHOUT ROWID;
    INSERT INTO charged_payments
    SELECT payment_id, count(*), sum(captured_minor > 0), sum(is_open), sum(authorized_minor), sum(captured_minor),
           sum(refunded_minor)
    FROM gateway_charges WHERE payment_id <> '' GROUP BY payment_id;
"""

EVERY_PAYMENT = "SELECT count(*) FROM booked_payments"

WITHIN_CAPTURED = Invariant(
    name="payments-within-captured",
    rule="Of no payment is more refunded than captured, or more captured than authorized, by anybody's records.",
    checked="SELECT (SELECT count(*) FROM booked_payments) + (SELECT count(*) FROM charged_payments)",
    offenders="""
        SELECT payment_id, 'the ledger has ' || authorized_minor || ' authorized, ' || captured_minor || ' captured, '
               || refunded_minor || ' refunded and ' || refunding_minor || ' held for refunds'
        FROM booked_payments
        WHERE captured_minor > authorized_minor OR min(captured_minor, refunded_minor, refunding_minor) < 0
           OR refunded_minor + refunding_minor > captured_minor AND status <> 'FAILED'
        UNION ALL
        SELECT payment_id, 'payment has ' || authorized_minor || ' authorized, ' || captured_minor || ' captured and '
               || refunded_minor || ' refunded'
        FROM gateway_payments
        WHERE captured_minor > authorized_minor OR refunded_minor > captured_minor AND state <> 'CAPTURE_FAILED'
        UNION ALL
        SELECT payment_id, 'the gateways have ' || authorized_minor || ' authorized, ' || captured_minor
               || ' captured and ' || refunded_minor || ' refunded'
        FROM charged_payments
        WHERE captured_minor > authorized_minor OR refunded_minor > captured_minor AND captured_minor > 0
    """,
)

PAYMENTS_ARE_ENTRIES = Invariant(
    name="payments-are-entries",
    rule="The entries of a payment sum to its amounts: at the gateway, of the merchant, and in our fees.",
    checked=EVERY_PAYMENT,
    offenders="""
        SELECT payment_id, 'captured ' || captured_minor || ' with fee ' || fee_minor || ', refunded ' || refunded_minor
               || ', disputed ' || disputed_minor || '; its entries have '
               || (gateway_minor - captures_in_transit_minor)
               || ' at the gateway, ' || merchant_minor || ' of the merchant, ' || fees_minor || ' fees and '
               || held_refunds_minor || ' held for refunds'
        FROM booked_payments
        WHERE gateway_minor - captures_in_transit_minor - refunds_in_transit_minor
              <> captured_minor - refunded_minor - disputed_minor
           OR fees_minor <> iif(captured_minor > 0, fee_minor, 0)
           OR merchant_minor <> captured_minor - fees_minor - refunded_minor - disputed_minor - refunds_in_transit_minor
           OR held_refunds_minor + refunds_in_transit_minor <> refunding_minor
    """,
)

STATUS_IS_ITS_MONEY = Invariant(
    name="payment-status-is-its-money",
    rule="A payment's status is that of its entries: what is held, captured, refunded and disputed.",
    checked=EVERY_PAYMENT,
    offenders="""
        SELECT payment_id, 'is ' || status || ' with ' || held_captures_minor || ' held, ' || captures_in_transit_minor
               || ' in transit, ' || captured_minor || ' captured, ' || refunded_minor || ' refunded, '
               || disputed_minor || ' disputed'
        FROM booked_payments
        WHERE NOT CASE status
            WHEN 'RESERVED' THEN captured_minor = 0
                                 AND held_captures_minor + captures_in_transit_minor = authorized_minor
            WHEN 'AUTHORIZED' THEN captured_minor = 0 AND held_captures_minor = authorized_minor
            WHEN 'VOIDED' THEN captured_minor = 0 AND held_captures_minor = 0 AND captures_in_transit_minor = 0
            WHEN 'FAILED' THEN captured_minor = 0 AND held_captures_minor = 0 AND captures_in_transit_minor = 0
            ELSE captured_minor > 0 AND held_captures_minor = 0 AND captures_in_transit_minor = 0
                 AND CASE WHEN disputed_minor > 0 THEN status = 'DISPUTED'
                          WHEN refunded_minor = 0 THEN status = 'CAPTURED'
                          WHEN refunded_minor >= captured_minor THEN status = 'REFUNDED'
                          ELSE status = 'PARTLY_REFUNDED' END
            END
    """,
)

HELD_FOR_OPEN_PAYMENTS = Invariant(
    name="held-for-open-payments",
    rule="Money is held, or in transit, only for a payment that is open: authorized, or with a saga under way.",
    checked=EVERY_PAYMENT,
    offenders="""
        SELECT payment_id, 'is ' || status || ' and no saga of it is under way; ' || held_captures_minor || ' and '
               || held_refunds_minor || ' are held, ' || captures_in_transit_minor || ' and '
               || refunds_in_transit_minor || ' in transit'
        FROM booked_payments
        WHERE payment_id NOT IN (SELECT payment_id FROM open_payments)
          AND (held_captures_minor <> 0 AND status <> 'AUTHORIZED' OR held_refunds_minor <> 0
               OR captures_in_transit_minor <> 0 OR refunds_in_transit_minor <> 0)
    """,
)

COMMITTED_ONCE = Invariant(
    name="payments-committed-once",
    rule="A completed saga of a payment has committed it once, and one that failed has not.",
    checked="SELECT count(*) FROM booked_sagas",
    offenders="""
        SELECT saga_id, 'is ' || state || ' and has ' || commits || ' commits of payment ' || payment_id
        FROM booked_sagas JOIN sagas USING (saga_id)
        WHERE saga_type IN ('payment', 'capture_later', 'refund')
          AND (state = 'CONFIRMED' AND commits <> 1 OR state = 'CANCELLED_COMPENSATED' AND commits <> 0)
        UNION ALL
        SELECT saga_id, 'is a completed payment of which the ledger knows nothing'
        FROM sagas
        WHERE saga_type = 'payment' AND state = 'CONFIRMED' AND saga_id NOT IN (SELECT saga_id FROM booked_sagas)
    """,
)

LEDGER_AND_PAYMENT = Invariant(
    name="ledger-and-payment-agree",
    rule="The ledger and payment have the same captures and refunds of every payment that no saga is changing.",
    checked="SELECT count(*) FROM gateway_payments",
    offenders="""
        SELECT payment_id, 'the ledger has ' || coalesce(booked_payments.captured_minor, 'nothing') || ' captured and '
               || coalesce(booked_payments.refunded_minor, 'nothing') || ' refunded, payment '
               || gateway_payments.captured_minor || ' and ' || gateway_payments.refunded_minor
        FROM gateway_payments LEFT JOIN booked_payments USING (payment_id)
        WHERE payment_id NOT IN (SELECT payment_id FROM open_payments)
          AND gateway_payments.state <> 'CAPTURE_FAILED'
          AND (coalesce(booked_payments.captured_minor, 0), coalesce(booked_payments.refunded_minor, 0))
           <> (gateway_payments.captured_minor, gateway_payments.refunded_minor)
        UNION ALL
        SELECT payment_id, 'is ' || status || ' in the ledger, and payment never made it'
        FROM booked_payments
        WHERE status IN ('AUTHORIZED', 'CAPTURED', 'PARTLY_REFUNDED', 'REFUNDED', 'DISPUTED')
          AND payment_id NOT IN (SELECT payment_id FROM gateway_payments)
    """,
)

CHARGED_AS_BOOKED = Invariant(
    name="charged-as-booked",
    rule="By its gateway, a payment is captured once, as in the ledger; a failed one is neither charged nor held.",
    checked="SELECT count(*) FROM charged_payments",
    offenders="""
        SELECT payment_id, 'is ' || coalesce(status, 'unknown to the ledger') || ' with '
               || coalesce(booked_payments.captured_minor, 0) || ' captured and '
               || coalesce(booked_payments.refunded_minor, 0) || ' refunded; its gateway has ' || captures
               || ' captures of ' || charged_payments.captured_minor || ', ' || charged_payments.refunded_minor
               || ' refunded and ' || open || ' open'
        FROM charged_payments LEFT JOIN booked_payments USING (payment_id)
        WHERE payment_id NOT IN (SELECT payment_id FROM open_payments)
          AND (captures <> (coalesce(booked_payments.captured_minor, 0) > 0)
               OR charged_payments.captured_minor <> coalesce(booked_payments.captured_minor, 0)
               OR charged_payments.refunded_minor <> coalesce(booked_payments.refunded_minor, 0)
               OR open <> (status IS 'AUTHORIZED'))
        UNION ALL
        SELECT payment_id, 'is ' || booked_payments.status || ' in the ledger, and ' || gateway || ' has nothing of it'
        FROM booked_payments JOIN gateway_payments USING (payment_id)
        WHERE booked_payments.captured_minor > 0 AND gateway IN (SELECT gateway FROM gateway_charges)
          AND payment_id NOT IN (SELECT payment_id FROM charged_payments)
    """,
)

WEBHOOKS_HAVE_A_FATE = Invariant(
    name="webhooks-have-a-fate",
    rule="Every webhook is decided about, unless its payment is under way or unknown, or a person decides.",
    checked="SELECT (SELECT count(*) FROM open_notices) + (SELECT count(*) FROM open_evidence)",
    offenders="""
        SELECT id, event || ' about payment ' || payment_id || ' is ' || fate || ', and no saga of it is under way'
        FROM open_notices
        WHERE fate <> 'STRANGE' AND payment_id IN (
            SELECT payment_id FROM booked_sagas JOIN sagas USING (saga_id)
            GROUP BY payment_id HAVING min(state IN ('CONFIRMED', 'CANCELLED_COMPENSATED')))
        UNION ALL
        SELECT id, 'evidence about ' || step || ' of ' || saga_id || ' is not handled, and its saga is '
               || coalesce(state, 'unknown')
        FROM open_evidence LEFT JOIN sagas USING (saga_id)
        WHERE coalesce(state, '') IN ('CONFIRMED', 'CANCELLED_COMPENSATED', '')
    """,
)

NOTIFIED = Invariant(
    name="merchants-notified",
    rule="The merchant of every finished saga has its event, with a delivery for each endpoint that wants it.",
    checked="SELECT count(*) FROM merchant_events",
    offenders="""
        SELECT saga_id, 'is a ' || saga_type || ' that is ' || state || ', without an event for its merchant'
        FROM sagas
        WHERE saga_type IN (SELECT saga_type FROM steps WHERE step = 'notify_merchant')
          AND state IN ('CONFIRMED', 'CANCELLED_COMPENSATED') AND saga_id NOT IN (SELECT saga_id FROM merchant_events)
          AND idle_days < 30
        UNION ALL
        SELECT saga_id, undelivered || ' of its events have no delivery to an endpoint that wants them'
        FROM merchant_events WHERE undelivered > 0
    """,
)
"""Older events may be deleted."""

REQUESTED_AS_BOOKED = Invariant(
    name="merchants-see-the-ledger",
    rule="Every accepted payment has its saga, and its merchant sees what the ledger has captured.",
    checked="SELECT count(*) FROM requested",
    offenders="""
        SELECT payment_id, 'was accepted, and the tracker has no payment saga ' || requested.saga_id
        FROM requested LEFT JOIN sagas USING (saga_id)
        WHERE saga_type IS NOT 'payment'
        UNION ALL
        SELECT payment_id, 'is ' || requested.status || ' with ' || requested.captured_minor
               || ' captured for its merchant, the ledger has ' || booked_payments.captured_minor
        FROM requested JOIN booked_payments USING (payment_id)
        WHERE payment_id NOT IN (SELECT payment_id FROM open_payments) AND booked_payments.status <> 'FAILED'
          AND requested.captured_minor <> booked_payments.captured_minor
    """,
)

PAYMENT_INVARIANTS = (
    WITHIN_CAPTURED,
    PAYMENTS_ARE_ENTRIES,
    STATUS_IS_ITS_MONEY,
    HELD_FOR_OPEN_PAYMENTS,
    COMMITTED_ONCE,
    LEDGER_AND_PAYMENT,
    CHARGED_AS_BOOKED,
    WEBHOOKS_HAVE_A_FATE,
    NOTIFIED,
    REQUESTED_AS_BOOKED,
)

UNITS: Final[Mapping[tuple[str, str], tuple[int, int]]] = {
    ("stripe", "ISK"): (1, 100),
    ("stripe", "UGX"): (1, 100),
    ("adyen", "ISK"): (1, 100),
    ("adyen", "CLP"): (1, 100),
    ("adyen", "CVE"): (100, 1),
}
"""Where a gateway's unit is not ISO's minor unit: what its amount is multiplied with, and divided by."""

RECORDS: Final[Mapping[str, tuple[str, ...]]] = {"stripe": ("payment_intent", "refund"), "adyen": ("payment",)}
"""The gateways that have records of their own, and the kinds in which a payment's amounts are."""


def charge(gateway: str, kind: str, record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a gateway's own record says of a payment, in ISO's minor units."""
    if gateway == "adyen":
        return _adyen_payment(record)
    return _stripe_intent(record) if kind == "payment_intent" else _stripe_refund(record)


def _stripe_intent(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return an intent; one that was never charged has authorized nothing."""
    authorized = record["amount"] if record.get("latest_charge") else 0
    is_open = record["state"] == "requires_capture"
    return _row("stripe", record, record["currency"], is_open, authorized, record.get("amount_received", 0), 0)


def _stripe_refund(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a refund; one that has not succeeded, or not for good, has refunded nothing."""
    refunded = record["amount"] if record["state"] == "succeeded" else 0
    return _row("stripe", record, record["currency"], False, 0, 0, refunded)


def _adyen_payment(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a payment; one that was refused authorized nothing."""
    authorized = 0 if record["state"] == "refused" else record["value"]
    is_open = record["state"] == "authorised"
    captured, refunded = record.get("captured", 0), record.get("refunded", 0)
    return _row("adyen", record, record["currency"], is_open, authorized, captured, refunded)


def _row(
    gateway: str, record: Mapping[str, Any], currency: str, is_open: bool, authorized: int, captured: int, refunded: int
) -> tuple[Any, ...]:
    times, parts = UNITS.get((gateway, currency.upper()), (1, 1))
    amounts = (units * times // parts for units in (authorized, captured, refunded))
    return gateway, record["id"], record["reference"], int(is_open), *amounts
