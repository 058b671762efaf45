-- Every query that a running server makes. tests/queue/test_queue_plans.py asks SQLite for the plan of each:
-- none may scan a live table.

-- name: met
-- What a mark meets, for the case that it is not plain.
SELECT r.state, r.owner, r.wish FROM recipient AS r WHERE r.message_id = ? AND r.n = ?

-- name: claimable
-- Due recipients of a domain, tried or never tried, by due time. A recipient whose message is missing is found as well.
SELECT r.message_id, r.n, r.address, r.domain, r.notify, r.orcpt, r.state, r.owner, r.attempts, r.due_at, r.lane,
       r.remote, r.reason,
       r.reply, r.failure, r.delay_notified, r.changed_at,
       m.id, m.received_at, m.sender, m.size, m.user, m.origin, m.envid, m.ret, m.eightbit, m.smtputf8, m.header_id
FROM recipient AS r LEFT JOIN message AS m ON m.id = r.message_id
WHERE r.state = 0 AND r.domain = :domain AND (r.attempts > 0) = :tried AND r.due_at <= :now
ORDER BY r.due_at
LIMIT :limit

-- name: claimable_keys
-- As `claimable`, but only what cannot be damaged text: for finding the damaged one.
SELECT r.message_id, r.n
FROM recipient AS r
WHERE r.state = 0 AND r.domain = :domain AND (r.attempts > 0) = :tried AND r.due_at <= :now
ORDER BY r.due_at
LIMIT :limit

-- name: one_row
SELECT r.message_id, r.n, r.address, r.domain, r.notify, r.orcpt, r.state, r.owner, r.attempts, r.due_at, r.lane,
       r.remote, r.reason,
       r.reply, r.failure, r.delay_notified, r.changed_at,
       m.id, m.received_at, m.sender, m.size, m.user, m.origin, m.envid, m.ret, m.eightbit, m.smtputf8, m.header_id
FROM recipient AS r LEFT JOIN message AS m ON m.id = r.message_id
WHERE r.message_id = ? AND r.n = ?

-- name: keys_table
-- The keys that one claim takes.
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
-- A row that cannot be read is set aside with the reason.
UPDATE recipient SET state = 3, owner = NULL, wish = NULL, reply = ?, failure = 'damaged', changed_at = ?
WHERE message_id = ? AND n = ?

-- name: queued_domains
-- Every queued recipient with its domain as octets: for finding the one whose domain is damaged text.
SELECT CAST(r.message_id AS BLOB), r.n, CAST(r.domain AS BLOB)
FROM recipient AS r
WHERE r.state = 0

-- name: quarantine_octets
-- As `quarantine`, for a recipient whose very key may be damaged text.
UPDATE recipient SET state = 3, owner = NULL, wish = NULL, reply = ?, failure = 'damaged', changed_at = ?
WHERE CAST(message_id AS BLOB) = ? AND n = ?

-- name: due
-- Domains with something queued, and the earliest due time: one look-up a domain, however many recipients wait in it.
WITH RECURSIVE domains (domain) AS (
    SELECT (SELECT r.domain FROM recipient AS r WHERE r.state = 0 AND r.domain > :after ORDER BY r.domain LIMIT 1)
    UNION ALL
    SELECT (SELECT r.domain FROM recipient AS r WHERE r.state = 0 AND r.domain > d.domain ORDER BY r.domain LIMIT 1)
    FROM domains AS d
    WHERE d.domain IS NOT NULL
    LIMIT :limit
)
SELECT d.domain,
       (SELECT r.due_at FROM recipient AS r
        WHERE r.state = 0 AND r.domain = d.domain AND (r.attempts > 0) = 0 ORDER BY r.due_at LIMIT 1),
       (SELECT r.due_at FROM recipient AS r
        WHERE r.state = 0 AND r.domain = d.domain AND (r.attempts > 0) = 1 ORDER BY r.due_at LIMIT 1)
FROM domains AS d
WHERE d.domain IS NOT NULL

-- name: hasten
-- Some of what is due too late in some domains, tried or never tried, becomes due at another time. The index is asked once a
-- domain.
UPDATE recipient SET due_at = :due_at
WHERE (message_id, n) IN (
    SELECT r.message_id, r.n
    FROM json_each(:domains) AS d CROSS JOIN recipient AS r
    WHERE r.state = 0 AND r.domain = d.value AND (r.attempts > 0) = :tried AND r.due_at > :latest
    LIMIT :limit
)

-- name: owned
-- What a worker has in hand; `recover` gives it back in steps.
SELECT r.message_id, r.n, r.owner, r.wish, r.attempts, r.due_at, r.changed_at
FROM recipient AS r
WHERE r.state = 1 AND r.owner = ?
LIMIT ?

-- name: owners
-- The workers that have something in hand: a look-up an owner, as in `due`.
WITH RECURSIVE owners (owner) AS (
    SELECT (SELECT r.owner FROM recipient AS r WHERE r.state = 1 ORDER BY r.owner LIMIT 1)
    UNION ALL
    SELECT (SELECT r.owner FROM recipient AS r WHERE r.state = 1 AND r.owner > o.owner ORDER BY r.owner LIMIT 1)
    FROM owners AS o
    WHERE o.owner IS NOT NULL
)
SELECT o.owner FROM owners AS o WHERE o.owner IS NOT NULL

-- name: withdrawn
SELECT r.message_id, r.n, r.wish, r.reason
FROM recipient AS r
WHERE r.owner = ? AND r.wish IS NOT NULL
ORDER BY r.message_id, r.n

-- name: head
SELECT b.head, b.head_crc, b.file, b.file_size, b.file_crc
FROM body AS b
WHERE b.message_id = ?

-- name: files
-- All body files that rows name: what `recover` keeps.
SELECT b.file FROM body AS b WHERE b.file IS NOT NULL

-- name: suspensions
-- A handful of rows, scanned.
SELECT s.id, s.kind, s.value, s.reason, s.created_at, s.until FROM suspension AS s ORDER BY s.id

-- name: prune
-- From the old end, which is where the small rowids are.
DELETE FROM ended
WHERE rowid IN (SELECT e.rowid FROM ended AS e ORDER BY e.rowid LIMIT :limit) AND ended_at < :before

-- name: free_pages
PRAGMA freelist_count

-- name: vacuum
-- Gives free pages back in a small step.
PRAGMA incremental_vacuum(256)
