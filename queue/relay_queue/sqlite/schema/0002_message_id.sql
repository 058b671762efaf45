-- The Message-ID of each message, so that one can be found by it while it waits and after it ended.
-- Without an index: that would cost every message a write to a random page, to serve a question that a person asks now and
-- then. Messages from before have none.

ALTER TABLE message ADD COLUMN header_id TEXT;
ALTER TABLE ended ADD COLUMN header_id TEXT;
