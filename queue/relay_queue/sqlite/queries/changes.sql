-- All that changes messages and their recipients, as triggers of one view: so that a whole batch of puts and marks is one
-- statement, whatever it holds, and as a statement outside BEGIN and COMMIT also its own transaction. A row of the view is
-- one change; `what` says which: 0 a message with its first recipient, 1 a further recipient, 2 a recipient's end, 3 any
-- other outcome. 4 is no change: it fills a statement up to one of the few lengths that are kept prepared.
-- tests/queue/test_queue_plans.py asks SQLite for the plan of each statement below.

-- name: view
CREATE TEMP VIEW change (
    what, message_id, n, state, owner, attempts, due_at, lane, reply, failure, delay_notified, at, -- recipients and marks
    remote,                                                                                        -- marks
    address, domain, notify, orcpt,                                                                -- recipients
    received_at, sender, size, user, origin, envid, ret, eightbit, smtputf8, header_id,            -- messages
    head, head_crc, file, file_size, file_crc                                                      -- their bodies
) AS
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL,
       NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL, NULL

-- name: new_message
CREATE TEMP TRIGGER new_message INSTEAD OF INSERT ON change WHEN NEW.what = 0 BEGIN
    INSERT INTO message (id, received_at, sender, size, user, origin, envid, ret, eightbit, smtputf8, header_id)
    VALUES (NEW.message_id, NEW.received_at, NEW.sender, NEW.size, NEW.user, NEW.origin, NEW.envid, NEW.ret, NEW.eightbit,
            NEW.smtputf8, NEW.header_id);
    INSERT INTO body (message_id, head, head_crc, file, file_size, file_crc)
    VALUES (NEW.message_id, NEW.head, NEW.head_crc, NEW.file, NEW.file_size, NEW.file_crc);
END

-- name: new_recipient
CREATE TEMP TRIGGER new_recipient INSTEAD OF INSERT ON change WHEN NEW.what < 2 BEGIN
    INSERT INTO recipient (message_id, n, address, domain, notify, orcpt, state, owner, attempts, due_at, lane, reply,
                           failure, delay_notified, changed_at)
    VALUES (NEW.message_id, NEW.n, NEW.address, NEW.domain, NEW.notify, NEW.orcpt, NEW.state, NEW.owner, NEW.attempts,
            NEW.due_at, NEW.lane, NEW.reply, NEW.failure, NEW.delay_notified, NEW.at);
END

-- name: ended_recipient
-- Ends go to the history. What the mark does not say (no attempt was made) stays as it was; a delivery has no failure.
-- Whose mark names an owner is plain only if the recipient is in that owner's hands and no admin wishes anything: else
-- all fails, and the batch is done again by looking first. `gone` is a function of the connection: the body files of
-- messages whose last recipient has just ended, to be removed from the folder after the commit.
CREATE TEMP TRIGGER ended_recipient INSTEAD OF INSERT ON change WHEN NEW.what = 2 BEGIN
    SELECT RAISE(ABORT, 'a mark is not plain')
    WHERE NEW.owner IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM recipient AS r
        WHERE r.message_id = NEW.message_id AND r.n = NEW.n AND r.state = 1 AND r.owner = NEW.owner AND r.wish IS NULL
    );
    INSERT INTO ended (message_id, n, address, domain, sender, user, size, received_at, ended_at, state, attempts, reply,
                       failure, lane, remote, header_id, reason)
    SELECT r.message_id, r.n, r.address, r.domain, coalesce(m.sender, ''), m.user, coalesce(m.size, 0),
           coalesce(m.received_at, 0), NEW.at, NEW.state, NEW.attempts,
           iif(NEW.state = 4, NEW.reply, coalesce(NEW.reply, r.reply)),
           iif(NEW.state = 4, NULL, coalesce(NEW.failure, r.failure)),
           coalesce(NEW.lane, r.lane), NEW.remote, m.header_id,
           iif(NEW.state = 7 OR (NEW.state = 5 AND NEW.reply IS NULL), r.reason, NULL) -- see decide.is_by_admin
    FROM recipient AS r LEFT JOIN message AS m ON m.id = r.message_id
    WHERE r.message_id = NEW.message_id AND r.n = NEW.n;
    DELETE FROM recipient WHERE message_id = NEW.message_id AND n = NEW.n;
    SELECT gone(CAST(b.file AS BLOB)) FROM body AS b
    WHERE b.message_id = NEW.message_id AND b.file IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM recipient AS r WHERE r.message_id = NEW.message_id);
    DELETE FROM body
    WHERE message_id = NEW.message_id AND NOT EXISTS (SELECT 1 FROM recipient AS r WHERE r.message_id = NEW.message_id);
    DELETE FROM message
    WHERE id = NEW.message_id AND NOT EXISTS (SELECT 1 FROM recipient AS r WHERE r.message_id = NEW.message_id);
END

-- name: moved_recipient
-- Deferred, held or quarantined. The question whether the mark is plain stands here again, for SQLite does not say in which
-- order triggers run: in one of its own it might be asked after the recipient is gone.
CREATE TEMP TRIGGER moved_recipient INSTEAD OF INSERT ON change WHEN NEW.what = 3 BEGIN
    SELECT RAISE(ABORT, 'a mark is not plain')
    WHERE NEW.owner IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM recipient AS r
        WHERE r.message_id = NEW.message_id AND r.n = NEW.n AND r.state = 1 AND r.owner = NEW.owner AND r.wish IS NULL
    );
    UPDATE recipient
    SET state = NEW.state, owner = NULL, wish = NULL, attempts = NEW.attempts,
        due_at = iif(NEW.state = 0, NEW.due_at, due_at), reply = coalesce(NEW.reply, reply),
        failure = coalesce(NEW.failure, failure), lane = coalesce(NEW.lane, lane), remote = coalesce(NEW.remote, remote),
        delay_notified = max(NEW.delay_notified, delay_notified), changed_at = NEW.at
    WHERE message_id = NEW.message_id AND n = NEW.n;
END

-- name: changes
-- Many rows at a time: the loader repeats the group of VALUES (see sql.repeated).
INSERT INTO temp.change
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
