-- The statements of a salvage on the new queue, before any other process opens it. They scan whole tables on purpose.

-- name: live_table
CREATE TEMP TABLE live (message_id TEXT PRIMARY KEY) WITHOUT ROWID

-- name: note_live
-- Messages that are certainly in the queue, because their rows are on pages that are certainly in use.
INSERT INTO temp.live SELECT m.id FROM message AS m UNION SELECT b.message_id FROM body AS b

-- name: has_ended
SELECT EXISTS (SELECT 1 FROM ended AS e WHERE e.message_id = ? AND e.n = ?)

-- name: end
-- Adds a delivery that could not be recorded to the history; `forget` then removes it from the queue. If the message
-- has no recipients left, the rest of it is dropped like that of other messages that have ended.
INSERT OR IGNORE INTO ended (message_id, n, address, domain, sender, user, size, received_at, ended_at, state, attempts,
                             reply, failure, lane, remote)
SELECT r.message_id, r.n, r.address, r.domain, m.sender, m.user, m.size, m.received_at, :at, :state, :attempts,
       :reply, NULL, coalesce(:lane, r.lane), :remote
FROM recipient AS r JOIN message AS m ON m.id = r.message_id
WHERE r.message_id = :message_id AND r.n = :n

-- name: forget
DELETE FROM recipient WHERE message_id = :message_id AND n = :n

-- name: forget_live
DELETE FROM temp.live
WHERE message_id = :message_id AND NOT EXISTS (SELECT 1 FROM recipient AS r WHERE r.message_id = :message_id)

-- name: without_message
-- Recipients and contents whose message cannot be read. A content that may have been freed counts only if no recipient
-- of the message has ended.
SELECT r.message_id FROM recipient AS r WHERE NOT EXISTS (SELECT 1 FROM message AS m WHERE m.id = r.message_id)
UNION
SELECT b.message_id FROM body AS b
WHERE NOT EXISTS (SELECT 1 FROM message AS m WHERE m.id = b.message_id)
  AND (b.message_id IN (SELECT l.message_id FROM temp.live AS l)
       OR NOT EXISTS (SELECT 1 FROM ended AS e WHERE e.message_id = b.message_id))

-- name: without_recipient
SELECT m.id FROM message AS m
WHERE NOT EXISTS (SELECT 1 FROM recipient AS r WHERE r.message_id = m.id)
  AND (m.id IN (SELECT l.message_id FROM temp.live AS l)
       OR NOT EXISTS (SELECT 1 FROM ended AS e WHERE e.message_id = m.id))

-- name: drop_recipients
DELETE FROM recipient WHERE NOT EXISTS (SELECT 1 FROM message AS m WHERE m.id = recipient.message_id)

-- name: drop_messages
DELETE FROM message WHERE NOT EXISTS (SELECT 1 FROM recipient AS r WHERE r.message_id = message.id)

-- name: drop_bodies
DELETE FROM body WHERE NOT EXISTS (SELECT 1 FROM message AS m WHERE m.id = body.message_id)

-- name: gaps
-- Recipients of a message are numbered from 0. Returns messages in which a number below the highest is missing, with
-- the numbers that exist.
SELECT k.message_id, group_concat(k.n)
FROM (
    SELECT r.message_id, r.n FROM recipient AS r
    UNION
    SELECT e.message_id, e.n FROM ended AS e JOIN message AS m ON m.id = e.message_id
) AS k
GROUP BY k.message_id
HAVING count(*) <= max(k.n)

-- name: addresses
SELECT r.n, r.address, r.domain FROM recipient AS r WHERE r.message_id = ? ORDER BY r.n

-- name: contents
SELECT m.id, b.head, b.head_crc, b.file FROM message AS m LEFT JOIN body AS b ON b.message_id = m.id ORDER BY m.id

-- name: quarantine
UPDATE recipient SET state = 3, owner = NULL, pending = NULL, reply = ?, failure = 'damaged', changed_at = ?
WHERE message_id = ?

-- name: messages
SELECT count(*) FROM message

-- name: recipients
SELECT count(*) FROM recipient

-- name: history
SELECT count(*) FROM ended

-- name: suspensions
SELECT count(*) FROM suspension
