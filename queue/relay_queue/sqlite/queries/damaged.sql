-- What the server asks when a page turned out to be damaged. The `+` keeps SQLite from using an index: it asks the table
-- itself, however long that takes (NOT INDEXED has no effect on tables without a rowid).

-- name: due_by_index
-- From the index alone, which does not say which of them were tried.
SELECT r.domain, r.stream, min(r.due_at)
FROM recipient AS r INDEXED BY recipient_queued
WHERE r.state = 0 AND (r.domain, r.stream) > (:after_domain, :after_stream)
GROUP BY r.domain, r.stream
ORDER BY r.domain, r.stream
LIMIT :limit

-- name: due_by_table
SELECT r.domain, r.stream, min(r.due_at)
FROM recipient AS r
WHERE +r.state = 0 AND (+r.domain, +r.stream) > (:after_domain, :after_stream)
GROUP BY +r.domain, +r.stream
ORDER BY +r.domain, +r.stream
LIMIT :limit

-- name: keys_by_index
-- Due recipients of a destination, from the index alone; in its order, so never-tried ones come first.
SELECT r.message_id, r.n
FROM recipient AS r INDEXED BY recipient_queued
WHERE r.state = 0 AND r.domain = :domain AND r.stream = :stream AND r.due_at <= :now

-- name: keys_by_table
SELECT r.message_id, r.n
FROM recipient AS r
WHERE +r.state = 0 AND +r.domain = :domain AND +r.stream = :stream AND +r.due_at <= :now

-- name: take
-- Another worker may have taken it since it was read.
UPDATE recipient SET state = 1, owner = ?
WHERE message_id = ? AND n = ? AND state = 0
