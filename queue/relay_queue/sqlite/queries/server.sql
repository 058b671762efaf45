-- All queries of a running server. tests/queue/test_queue_plans.py asks SQLite for the plan of each: none may scan a
-- live table.

-- name: met
-- The current state of a recipient, for a mark that is not plain.
SELECT r.state, r.owner, r.pending FROM recipient AS r WHERE r.message_id = ? AND r.n = ?

-- name: claimable
-- Due recipients of a destination, tried or never tried, by due time. Includes recipients whose message is missing.
SELECT r.message_id, r.n, {recipient:r.},
       m.id, {message:m.}
FROM recipient AS r LEFT JOIN message AS m ON m.id = r.message_id
WHERE r.state = 0 AND r.domain = :domain AND r.stream = :stream AND (r.attempts > 0) = :tried AND r.due_at <= :now
ORDER BY r.due_at
LIMIT :limit

-- name: claimable_keys
-- As `claimable`, but only the keys, which decode even if other columns are damaged: used to find the damaged rows.
SELECT r.message_id, r.n
FROM recipient AS r
WHERE r.state = 0 AND r.domain = :domain AND r.stream = :stream AND (r.attempts > 0) = :tried AND r.due_at <= :now
ORDER BY r.due_at
LIMIT :limit

-- name: one_row
SELECT r.message_id, r.n, {recipient:r.},
       m.id, {message:m.}
FROM recipient AS r LEFT JOIN message AS m ON m.id = r.message_id
WHERE r.message_id = ? AND r.n = ?

-- name: keys_table
-- The keys of the recipients that the next statement changes, for example those of one claim.
CREATE TEMP TABLE taken (message_id TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (message_id, n)) WITHOUT ROWID

-- name: put_keys
INSERT INTO temp.taken (message_id, n)
VALUES (?, ?)

-- name: keys_clear
DELETE FROM temp.taken

-- name: take
UPDATE recipient SET state = 1, owner = ?
WHERE (message_id, n) IN (SELECT t.message_id, t.n FROM temp.taken AS t)

-- name: quarantine
-- Sets aside a row that cannot be read, and records why.
UPDATE recipient SET state = 3, owner = NULL, pending = NULL, reply = ?, failure = 'damaged', changed_at = ?
WHERE message_id = ? AND n = ?

-- name: queued_destinations
-- Every queued recipient with its destination as bytes: used to find those whose destination is damaged text.
SELECT CAST(r.message_id AS BLOB), r.n, CAST(r.domain AS BLOB), CAST(r.stream AS BLOB)
FROM recipient AS r
WHERE r.state = 0

-- name: quarantine_bytes
-- As `quarantine`, for a recipient whose key may be damaged text as well.
UPDATE recipient SET state = 3, owner = NULL, pending = NULL, reply = ?, failure = 'damaged', changed_at = ?
WHERE CAST(message_id AS BLOB) = ? AND n = ?

-- name: due
-- Destinations with queued recipients, and their earliest due times. A few index look-ups per destination, however many
-- recipients wait. The next destination is the next stream of the same domain, or else the first stream of the next
-- domain. Each look-up is an equality or a comparison on one column of the index. A comparison of (domain, stream)
-- pairs would be shorter, but SQLite would search it by the domain alone and then read all recipients of the domain.
WITH RECURSIVE destinations (domain, stream, step) AS (
    SELECT :after_domain, :after_stream, 0
    UNION ALL
    SELECT iif(
               EXISTS (SELECT 1 FROM recipient AS r
                       WHERE r.state = 0 AND r.domain = d.domain AND r.stream > d.stream),
               d.domain,
               (SELECT r.domain FROM recipient AS r
                WHERE r.state = 0 AND r.domain > d.domain ORDER BY r.domain LIMIT 1)
           ),
           coalesce(
               (SELECT r.stream FROM recipient AS r
                WHERE r.state = 0 AND r.domain = d.domain AND r.stream > d.stream ORDER BY r.stream LIMIT 1),
               (SELECT r.stream FROM recipient AS r
                WHERE r.state = 0 AND r.domain > d.domain ORDER BY r.domain, r.stream LIMIT 1)
           ),
           d.step + 1
    FROM destinations AS d
    WHERE d.domain IS NOT NULL
    LIMIT :limit + 1
)
SELECT d.domain, d.stream,
       (SELECT r.due_at FROM recipient AS r
        WHERE r.state = 0 AND r.domain = d.domain AND r.stream = d.stream AND (r.attempts > 0) = 0
        ORDER BY r.due_at LIMIT 1),
       (SELECT r.due_at FROM recipient AS r
        WHERE r.state = 0 AND r.domain = d.domain AND r.stream = d.stream AND (r.attempts > 0) = 1
        ORDER BY r.due_at LIMIT 1)
FROM destinations AS d
WHERE d.step > 0 AND d.domain IS NOT NULL

-- name: bring_forward
-- Changes the due time of some recipients that are due too late, tried or never tried, in the given destinations. The
-- index is searched once for each destination.
UPDATE recipient SET due_at = :due_at
WHERE (message_id, n) IN (
    SELECT r.message_id, r.n
    FROM json_each(:destinations) AS d CROSS JOIN recipient AS r
    WHERE r.state = 0 AND r.domain = json_extract(d.value, '$[0]') AND r.stream = json_extract(d.value, '$[1]')
      AND (r.attempts > 0) = :tried AND r.due_at > :latest
      -- A message that its sender scheduled for later is not late.
      AND r.due_at > coalesce((SELECT m.not_before FROM message AS m WHERE m.id = r.message_id), 0)
    LIMIT :limit
)

-- name: new_lease
INSERT INTO lease (node, worker, started_at) VALUES (?, ?, ?)

-- name: leases_of_worker
-- Earlier leases of a worker, whose recipients must be given back.
SELECT l.id FROM lease AS l WHERE l.node = ? AND l.worker = ? AND l.id <> ? ORDER BY l.id

-- name: leases_of_node
-- All leases of a node, and owners without a lease (as after a salvage). One index look-up for each owner, as in `due`.
WITH RECURSIVE owners (owner) AS (
    SELECT (SELECT r.owner FROM recipient AS r WHERE r.state = 1 ORDER BY r.owner LIMIT 1)
    UNION ALL
    SELECT (SELECT r.owner FROM recipient AS r WHERE r.state = 1 AND r.owner > o.owner ORDER BY r.owner LIMIT 1)
    FROM owners AS o
    WHERE o.owner IS NOT NULL
)
SELECT l.id FROM lease AS l WHERE l.node = ?
UNION
SELECT o.owner FROM owners AS o
WHERE o.owner IS NOT NULL AND NOT EXISTS (SELECT 1 FROM lease AS l WHERE l.id = o.owner)

-- name: end_lease
-- No recipient refers to the lease any more. AUTOINCREMENT never reuses its number.
DELETE FROM lease WHERE id = ?

-- name: owned
-- Recipients claimed under a lease; `recover` gives them back in steps.
SELECT r.message_id, r.n, r.owner, r.pending, r.attempts, r.due_at, r.changed_at
FROM recipient AS r
WHERE r.state = 1 AND r.owner = ?
LIMIT ?

-- name: pending_actions
SELECT r.message_id, r.n, r.pending, r.reason
FROM recipient AS r
WHERE r.owner = ? AND r.pending IS NOT NULL
ORDER BY r.message_id, r.n

-- name: head
SELECT b.head, b.head_crc, b.file, b.file_size, b.file_crc
FROM body AS b
WHERE b.message_id = ?

-- name: files
-- All body files that rows name; the cleanup of `recover_node` keeps these.
SELECT b.file FROM body AS b WHERE b.file IS NOT NULL

-- name: suspensions
-- The table has only a few rows, so it is scanned.
SELECT s.id, s.kind, s.value, s.reason, s.created_at, s.until FROM suspension AS s ORDER BY s.id

-- name: prune
-- Deletes from the oldest entries, which have the smallest rowids.
DELETE FROM ended
WHERE rowid IN (SELECT e.rowid FROM ended AS e ORDER BY e.rowid LIMIT :limit) AND ended_at < :before

-- name: free_pages
PRAGMA freelist_count

-- name: vacuum
-- Returns free pages to the file system in a small step.
PRAGMA incremental_vacuum(256)
