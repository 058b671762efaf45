-- The Message-ID of each message, so that one can be found by it while it waits and after it ended.
-- Without an index: that would cost every message a write to a random page, to serve a question that a person asks now and
-- then. Messages from before have none.

ALTER TABLE message ADD COLUMN header_id TEXT;
ALTER TABLE ended ADD COLUMN header_id TEXT;
-- What an administrator gave as the reason for holding, dropping or failing a recipient, and which server answered last.
-- Both were kept in `reply` or not at all, so that a hold wiped out the server's answer, and the notification of a
-- message that expired could not say whose answer it quotes.

ALTER TABLE recipient ADD COLUMN remote TEXT;
ALTER TABLE recipient ADD COLUMN reason TEXT;
ALTER TABLE ended ADD COLUMN reason TEXT;
