-- All changes of messages and their recipients, as triggers of one view, so that a whole batch of puts and marks is one
-- statement, whatever it contains (`apply` explains why). A statement outside BEGIN and COMMIT is also its own
-- transaction. Each row of the view is one change. `what` is its kind: 0 a message with its first recipient, 1 a
-- further recipient, 2 a recipient that ends, 3 any other outcome. 4 is no change: it pads a statement to one of the
-- few lengths that are kept prepared. Columns of the message have the prefix m_, columns of its body b_; `columns`
-- generates all of them from the model. tests/queue/test_queue_plans.py asks SQLite for the plan of each statement
-- below.

-- name: view
CREATE TEMP VIEW change ({change}) AS SELECT {nulls}

-- name: new_message
CREATE TEMP TRIGGER new_message INSTEAD OF INSERT ON change WHEN NEW.what = 0 BEGIN
    INSERT INTO message (id, {message}) VALUES (NEW.message_id, {message:NEW.m_});
    INSERT INTO body (message_id, {body}) VALUES (NEW.message_id, {body:NEW.b_});
END

-- name: new_recipient
CREATE TEMP TRIGGER new_recipient INSTEAD OF INSERT ON change WHEN NEW.what < 2 BEGIN
    INSERT INTO recipient (message_id, n, {recipient}) VALUES (NEW.message_id, NEW.n, {recipient:NEW.});
END

-- name: ended_recipient
-- Moves recipients that end to the history. Fields that the mark leaves empty (no attempt was made) keep their value; a
-- delivery has no failure. A mark that names an owner is plain only if the recipient is claimed under that lease and no
-- action is pending. Otherwise the whole statement fails, and the batch is repeated with a check of each mark first.
-- `gone` is a function of the connection. It records the body files of messages whose last recipient has just ended, so
-- that they can be removed after the commit.
CREATE TEMP TRIGGER ended_recipient INSTEAD OF INSERT ON change WHEN NEW.what = 2 BEGIN
    SELECT RAISE(ABORT, 'a mark is not plain')
    WHERE NEW.owner IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM recipient AS r
        WHERE r.message_id = NEW.message_id AND r.n = NEW.n AND r.state = 1 AND r.owner = NEW.owner AND r.pending IS NULL
    );
    INSERT INTO ended (message_id, n, address, domain, sender, size, received_at, ended_at, state, attempts, reply, failure,
                       lane, remote, reason, {kept})
    SELECT r.message_id, r.n, r.address, r.domain, coalesce(m.sender, ''), coalesce(m.size, 0),
           coalesce(m.received_at, 0), NEW.changed_at, NEW.state, NEW.attempts,
           iif(NEW.state = 4, NEW.reply, coalesce(NEW.reply, r.reply)),
           iif(NEW.state = 4, NULL, coalesce(NEW.failure, r.failure)),
           coalesce(NEW.lane, r.lane), NEW.remote,
           iif(NEW.state = 7 OR (NEW.state = 5 AND NEW.reply IS NULL), r.reason, NULL), -- see decide.is_by_admin
           {kept:m.}
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
-- Defers, holds or quarantines a recipient. The check that the mark is plain is repeated here, because SQLite does not
-- define the order in which triggers run: in a separate trigger it might run after the recipient was deleted.
CREATE TEMP TRIGGER moved_recipient INSTEAD OF INSERT ON change WHEN NEW.what = 3 BEGIN
    SELECT RAISE(ABORT, 'a mark is not plain')
    WHERE NEW.owner IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM recipient AS r
        WHERE r.message_id = NEW.message_id AND r.n = NEW.n AND r.state = 1 AND r.owner = NEW.owner AND r.pending IS NULL
    );
    UPDATE recipient
    SET state = NEW.state, owner = NULL, pending = NULL, attempts = NEW.attempts,
        due_at = iif(NEW.state = 0, NEW.due_at, due_at), reply = coalesce(NEW.reply, reply),
        failure = coalesce(NEW.failure, failure), lane = coalesce(NEW.lane, lane),
        remote = coalesce(NEW.remote, remote), delay_notified = max(NEW.delay_notified, delay_notified),
        changed_at = NEW.changed_at
    WHERE message_id = NEW.message_id AND n = NEW.n;
END

-- name: changes
-- Inserts many rows at a time: `sql.repeated` repeats the VALUES group.
INSERT INTO temp.change
VALUES ({values})
