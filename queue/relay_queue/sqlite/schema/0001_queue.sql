-- The queue's first schema. Live tables stay small: what has ended moves to `ended` in the transaction that ends it.
-- Ids are relay_queue.ids (they sort by time, so live tables grow at their right edge); times are seconds since the epoch.

CREATE TABLE message (
    id          TEXT PRIMARY KEY,
    received_at REAL NOT NULL,
    sender      TEXT NOT NULL,
    size        INTEGER NOT NULL,
    user        TEXT,
    origin      TEXT NOT NULL,
    envid       TEXT,
    ret         TEXT,
    eightbit    INTEGER NOT NULL,
    smtputf8    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE recipient (
    message_id     TEXT NOT NULL,
    n              INTEGER NOT NULL,
    address        TEXT NOT NULL,
    domain         TEXT NOT NULL,
    notify         TEXT,
    orcpt          TEXT,
    state          INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3), -- states.State, live ones only
    owner          INTEGER CHECK ((owner IS NOT NULL) = (state = 1)),
    attempts       INTEGER NOT NULL,
    due_at         REAL NOT NULL,
    lane           TEXT,
    reply          TEXT,
    failure        TEXT,
    delay_notified INTEGER NOT NULL,
    changed_at     REAL NOT NULL,
    wish           TEXT CHECK (wish IS NULL OR state = 1),         -- protocol.Action, by an admin
    PRIMARY KEY (message_id, n)
) STRICT, WITHOUT ROWID;

-- What waits, by domain: never-tried ones apart, so that first attempts are never behind retries. `claim` and `due` live on it.
-- `state` at the end of these makes them cover the summary, which else would fetch every row for it (measured: 3.8 s for 0.2 s).
CREATE INDEX recipient_queued ON recipient (domain, attempts > 0, due_at, state) WHERE state = 0;
-- What is in a worker's hands: `recover` and the summary. A message that is delivered at once is only ever in this one.
CREATE INDEX recipient_active ON recipient (owner, domain, state) WHERE state = 1;
-- What an admin wants of it: nearly always empty, asked by every worker every second.
CREATE INDEX recipient_wish ON recipient (owner, wish) WHERE wish IS NOT NULL;
-- What is set aside: held or quarantined.
CREATE INDEX recipient_aside ON recipient (domain, state) WHERE state > 1;

-- With a rowid: measured 20-30 % cheaper for blobs of 4 KiB than WITHOUT ROWID, whose pages hold only a quarter of one.
CREATE TABLE body (
    message_id TEXT NOT NULL,
    head       BLOB NOT NULL,
    head_crc   INTEGER NOT NULL,
    file       TEXT,
    file_size  INTEGER NOT NULL,
    file_crc   INTEGER
) STRICT;
CREATE UNIQUE INDEX body_message ON body (message_id);
CREATE INDEX body_file ON body (file) WHERE file IS NOT NULL;

-- The history, appended in the order of ending and pruned from its old end. By address it is scanned, newest first:
-- an index on address would dirty a random page for each message to serve a question that a person asks now and then.
CREATE TABLE ended (
    message_id  TEXT NOT NULL,
    n           INTEGER NOT NULL,
    address     TEXT NOT NULL,
    domain      TEXT NOT NULL,
    sender      TEXT NOT NULL,
    user        TEXT,
    size        INTEGER NOT NULL,
    received_at REAL NOT NULL,
    ended_at    REAL NOT NULL,
    state       INTEGER NOT NULL CHECK (state > 3),
    attempts    INTEGER NOT NULL,
    reply       TEXT,
    failure     TEXT,
    lane        TEXT,
    remote      TEXT
) STRICT;
-- Unique: no recipient ends twice, whatever else goes wrong.
CREATE UNIQUE INDEX ended_once ON ended (message_id, n);

CREATE TABLE suspension (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    kind       TEXT NOT NULL,
    value      TEXT NOT NULL,
    reason     TEXT NOT NULL,
    created_at REAL NOT NULL,
    until      REAL
) STRICT;
