-- NEWS
SELECT sagas.saga_id, sagas.version, sagas.state, entry."seq" AS "entry_seq", entry."message_id" AS "entry_message_id", entry."kind" AS "entry_kind", entry."type" AS "entry_type", entry."service" AS "entry_service", entry."step" AS "entry_step", entry."attempt" AS "entry_attempt", entry."causation_id" AS "entry_causation_id", entry."occurred_at" AS "entry_occurred_at", entry."recorded_at" AS "entry_recorded_at", entry."deadline_at" AS "entry_deadline_at", entry."late" AS "entry_late", entry."detail" AS "entry_detail", entry."topic" AS "entry_topic", entry."partition" AS "entry_partition", entry."offset" AS "entry_offset"
FROM unnest(CAST($1 AS text[]), CAST($2 AS bigint[])) AS watched (saga_id, after) JOIN sagas ON sagas.saga_id = watched.saga_id LEFT JOIN LATERAL (SELECT *
FROM timeline
WHERE timeline.saga_id = watched.saga_id AND timeline.seq > watched.after
ORDER BY timeline.seq
LIMIT 1000) AS entry ON true
ORDER BY sagas.saga_id, entry.seq;

-- RECORDED_UNTIL
SELECT partition, recorded_until
FROM watermarks;
