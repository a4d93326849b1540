-- ADD_ENTRIES
INSERT INTO money_entries (provider, short_code, receipt, kind, amount_minor, own_id, at)
SELECT provider, short_code, receipt, kind, amount_minor, own_id, at
FROM unnest(CAST($1 AS text[]), CAST($2 AS text[]), CAST($3 AS text[]), CAST($4 AS text[]), CAST($5 AS bigint[]), CAST($6 AS text[]), CAST($7 AS timestamptz[])) AS row (provider, short_code, receipt, kind, amount_minor, own_id, at);
