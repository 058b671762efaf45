-- The server's queries when a page is damaged. The `+` keeps SQLite from using an index, so that it reads the table
-- itself, however long that takes (NOT INDEXED has no effect on tables without a rowid).

-- name: due_by_index
-- Reads only the index. Unlike `due` it does not tell tried and never-tried recipients apart.
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
-- Due recipients of a destination. Reads only the index, in its order, so that never-tried ones come first.
SELECT r.message_id, r.n
FROM recipient AS r INDEXED BY recipient_queued
WHERE r.state = 0 AND r.domain = :domain AND r.stream = :stream AND r.due_at <= :now

-- name: keys_by_table
SELECT r.message_id, r.n
FROM recipient AS r
WHERE +r.state = 0 AND +r.domain = :domain AND +r.stream = :stream AND +r.due_at <= :now

-- name: take
-- The condition on the state is needed because another worker may have claimed the recipient since it was read.
UPDATE recipient SET state = 1, owner = ?
WHERE message_id = ? AND n = ? AND state = 0
