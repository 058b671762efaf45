-- Streams, leases, room in the message's record, and what is needed to trace a message and to say why it waits. What is claimed at this moment was claimed by workers that no longer
-- run, so each of their numbers becomes a lease, which the next start gives back.

-- The Message-ID. Without an index: that would cost every message a write to a random page, to serve a question that a
-- person asks now and then. Messages from before have none.
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
ALTER TABLE recipient ADD COLUMN reason TEXT;          -- why an administrator holds it, or wants it dropped or failed
ALTER TABLE recipient RENAME COLUMN wish TO pending;  -- protocol.Action, by an admin

-- What waits, by destination: never-tried recipients apart, so that first attempts are never behind retries.
DROP INDEX recipient_queued;
CREATE INDEX recipient_queued ON recipient (domain, stream, attempts > 0, due_at, state) WHERE state = 0;
-- What an admin wants done to claimed recipients: nearly always empty, and asked by every worker every second.
DROP INDEX recipient_wish;
CREATE INDEX recipient_pending ON recipient (owner, pending) WHERE pending IS NOT NULL;

-- Who may claim. `recipient.owner` is a lease's id; ids are never used again. A lease whose claims were given back is
-- deleted, so the table has a row for each running worker.
CREATE TABLE lease (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    node       TEXT NOT NULL,
    worker     INTEGER NOT NULL,
    started_at REAL NOT NULL
) STRICT;
INSERT INTO lease (id, node, worker, started_at)
SELECT DISTINCT r.owner, 'local', r.owner, 0 FROM recipient AS r WHERE r.state = 1;
