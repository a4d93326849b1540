-- POLICIES
SELECT name, version, valid_from, loan_order, targets
FROM policies
ORDER BY name, version;

-- TARIFFS
SELECT valid_from, terms
FROM tariffs
ORDER BY valid_from;

-- SHORT_CODES
SELECT short_code, provider, currency, is_open, rank
FROM short_codes
ORDER BY rank;

-- INSERT_POLICY
INSERT INTO policies (name, version, valid_from, loan_order, targets, entered_by)
SELECT $1, coalesce(max(version), 0) + 1, $2, $3::JSONB, $4::JSONB, $5
FROM policies
WHERE name = $1
RETURNING version;

-- INSERT_TARIFF
INSERT INTO tariffs (valid_from, terms, entered_by) VALUES ($1, $2::JSONB, $3)
ON CONFLICT (valid_from) DO NOTHING;

-- PUT_SHORT_CODE
INSERT INTO short_codes (short_code, provider, currency, is_open, rank) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (short_code)
DO UPDATE
SET provider = excluded.provider, currency = excluded.currency, is_open = excluded.is_open, rank = excluded.rank;
