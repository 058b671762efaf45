-- The queries of the shell. They may read a whole table (an admin's filter has no index), but never hold a lock for
-- long. `/*where*/` is replaced by conditions of relay_queue.sqlite.filters, which contain parameters only, never
-- values.

-- name: page
-- One page of selected live recipients with their messages, oldest first, after a key. A recipient whose message is
-- missing is shown as well, so that it can be dropped.
SELECT r.message_id, r.n, {recipient:r.},
       m.id, {message:m.}, r.pending
FROM recipient AS r LEFT JOIN message AS m ON m.id = r.message_id
WHERE (r.message_id, r.n) > (:after_id, :after_n) /*where*/
ORDER BY r.message_id, r.n
LIMIT :page

-- name: rest_of_message
-- The selected recipients of a page's last message that did not fit on the page.
SELECT r.message_id, r.n, {recipient:r.},
       m.id, {message:m.}, r.pending
FROM recipient AS r LEFT JOIN message AS m ON m.id = r.message_id
WHERE r.message_id = :after_id AND r.n > :after_n /*where*/
ORDER BY r.n

-- name: summary_all
-- Counts by domain, from the partial indexes alone. The only table rows read are one message per result row, for its
-- age.
SELECT s.domain, s.state, s.recipients, s.next_due, (SELECT m.received_at FROM message AS m WHERE m.id = s.oldest)
FROM (
    SELECT r.domain, 0 AS state, count(*) AS recipients, min(r.due_at) AS next_due, min(r.message_id) AS oldest
    FROM recipient AS r INDEXED BY recipient_queued WHERE r.state = 0 GROUP BY r.domain
    UNION ALL
    SELECT r.domain, 1, count(*), NULL, min(r.message_id)
    FROM recipient AS r INDEXED BY recipient_active WHERE r.state = 1 GROUP BY r.domain
    UNION ALL
    SELECT r.domain, r.state, count(*), NULL, min(r.message_id)
    FROM recipient AS r INDEXED BY recipient_aside WHERE r.state > 1 GROUP BY r.domain, r.state
) AS s

-- name: summary
-- Counts by domain of the recipients that a filter selects.
SELECT r.domain, r.state, count(*), min(iif(r.state = 0, r.due_at, NULL)), min(m.received_at)
FROM recipient AS r LEFT JOIN message AS m ON m.id = r.message_id
WHERE 1 /*where*/
GROUP BY r.domain, r.state

-- name: due_times
-- Reads only the index.
SELECT r.due_at FROM recipient AS r INDEXED BY recipient_queued
WHERE r.state = 0 AND r.domain = :domain AND r.stream = :stream AND (r.attempts > 0) = :tried AND r.due_at <= :now
ORDER BY r.due_at
LIMIT :limit

-- name: set_pending
-- Sets the pending action of claimed recipients, which their workers carry out.
UPDATE recipient SET pending = ?
WHERE state = 1 AND (message_id, n) IN (SELECT t.message_id, t.n FROM temp.taken AS t)

-- name: reason
-- Sets an admin's reason for an action on these recipients. It never replaces the last reply.
UPDATE recipient SET reason = ?
WHERE (message_id, n) IN (SELECT t.message_id, t.n FROM temp.taken AS t)

-- name: ended_all
SELECT {ended:e.}
FROM ended AS e
ORDER BY e.rowid DESC
LIMIT :limit

-- name: ended_of_message
SELECT {ended:e.}
FROM ended AS e
WHERE e.message_id = :message_id AND (:address IS NULL OR lower(e.address) = :address OR lower(e.sender) = :address)
ORDER BY e.rowid DESC
LIMIT :limit

-- name: ended_of_address
-- Scans from the newest entry until enough are found; the schema explains why there is no index.
SELECT {ended:e.}
FROM ended AS e
WHERE lower(e.address) = :address OR lower(e.sender) = :address
ORDER BY e.rowid DESC
LIMIT :limit

-- name: is_live
SELECT count(*) FROM message AS m WHERE m.id = ?

-- name: suspend
INSERT INTO suspension (kind, value, reason, created_at, until) VALUES (?, ?, ?, ?, ?)

-- name: resume
DELETE FROM suspension WHERE id IN (SELECT value FROM json_each(?))

-- name: integrity
-- Reports at most ten faults. Checks each page, and that each row is in each index; takes about a second for 256 MiB.
PRAGMA integrity_check(10)

-- name: pages
-- As above, but without comparing indexes with their tables, which takes several times as long.
PRAGMA quick_check(10)
