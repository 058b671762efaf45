-- Adds streams, leases, further message fields, and the columns needed to trace a message and to explain why it waits.
-- Recipients that are claimed during the migration were claimed by workers that no longer run, so each of their worker
-- numbers becomes a lease, which the next start gives back.

-- The Message-ID. It has no index, which would cost a write to a random page for every message, to speed up a rare
-- query by a person. Messages stored before this migration have none.
ALTER TABLE message ADD COLUMN header_id TEXT;
ALTER TABLE message ADD COLUMN stream TEXT NOT NULL DEFAULT 'transactional';
ALTER TABLE message ADD COLUMN tags TEXT;            -- JSON array of texts; NULL when empty
ALTER TABLE message ADD COLUMN metadata TEXT;        -- JSON object of texts; NULL when empty
ALTER TABLE message ADD COLUMN idempotency_key TEXT;
ALTER TABLE message ADD COLUMN not_before REAL;
ALTER TABLE message ADD COLUMN expires_at REAL;

ALTER TABLE ended ADD COLUMN reason TEXT;              -- why an administrator dropped or failed it
ALTER TABLE ended ADD COLUMN header_id TEXT;
ALTER TABLE ended ADD COLUMN stream TEXT;
ALTER TABLE ended ADD COLUMN tags TEXT;
ALTER TABLE ended ADD COLUMN metadata TEXT;
ALTER TABLE ended ADD COLUMN idempotency_key TEXT;
ALTER TABLE ended ADD COLUMN not_before REAL;
ALTER TABLE ended ADD COLUMN expires_at REAL;

ALTER TABLE recipient ADD COLUMN stream TEXT NOT NULL DEFAULT 'transactional';
ALTER TABLE recipient ADD COLUMN remote TEXT;          -- the server that gave the last answer
ALTER TABLE recipient ADD COLUMN reason TEXT;          -- why an administrator holds it, or for the pending action
ALTER TABLE recipient RENAME COLUMN wish TO pending;  -- protocol.Action, by an admin

-- Waiting recipients by destination. Never-tried ones are separate, so that first attempts never wait behind retries.
DROP INDEX recipient_queued;
CREATE INDEX recipient_queued ON recipient (domain, stream, attempts > 0, due_at, state) WHERE state = 0;
-- Pending actions on claimed recipients: nearly always empty, and read by every worker every second.
DROP INDEX recipient_wish;
CREATE INDEX recipient_pending ON recipient (owner, pending) WHERE pending IS NOT NULL;

-- The owners that may claim. `recipient.owner` is a lease's id; ids are never reused. A lease is deleted when its
-- claims have been given back, so the table has one row for each running worker.
CREATE TABLE lease (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    node       TEXT NOT NULL,
    worker     INTEGER NOT NULL,
    started_at REAL NOT NULL
) STRICT;
INSERT INTO lease (id, node, worker, started_at)
SELECT DISTINCT r.owner, 'local', r.owner, 0 FROM recipient AS r WHERE r.state = 1;
