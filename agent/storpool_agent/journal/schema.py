# SPDX-FileCopyrightText: The storpool-agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tables of the journal, and their versions."""

import sqlite3

_V1 = """
CREATE TABLE command (
    seq INTEGER PRIMARY KEY,                -- order of arrival
    id TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,                   -- of the request's bytes: the same id with others is a conflict
    request BLOB NOT NULL,                  -- without the secrets of its command
    name TEXT NOT NULL,
    publisher TEXT,
    reply_to TEXT NOT NULL,                 -- every word that asked for the reply, separated by spaces
    received_at REAL NOT NULL,              -- wall clock: it must mean something after a reboot
    state TEXT NOT NULL CHECK (state IN ('accepted', 'running', 'finished')),
    attempts INTEGER NOT NULL DEFAULT 0,
    finished_at REAL,
    reply BLOB
);
CREATE INDEX unfinished ON command (seq) WHERE state != 'finished';
CREATE INDEX finished ON command (finished_at) WHERE state = 'finished';

CREATE TABLE note (                         -- what a command must find again after a crash; goes with it
    command TEXT NOT NULL REFERENCES command (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    PRIMARY KEY (command, kind, target)
) WITHOUT ROWID;

CREATE TABLE outbox (                       -- what the broker has not confirmed yet
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    exchange TEXT NOT NULL,
    routing_key TEXT NOT NULL,
    message_id TEXT NOT NULL,
    body BLOB NOT NULL,
    mandatory INTEGER NOT NULL,
    created_at REAL NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0
);

CREATE TABLE fence (                        -- the highest generation seen of a volume
    global_id TEXT PRIMARY KEY,
    generation INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE pending_unplug (               -- guests that were asked to let go of a disk and have not yet
    global_id TEXT PRIMARY KEY,
    vm TEXT NOT NULL,
    command TEXT NOT NULL,
    since REAL NOT NULL
) WITHOUT ROWID;
"""


_V2 = """
ALTER TABLE command ADD COLUMN shared INTEGER NOT NULL DEFAULT 0;  -- 1: the broker keeps it until it is finished
"""

_V3 = """
CREATE TABLE pending_thaw (                 -- guests that may be frozen, and until when
    vm TEXT PRIMARY KEY,
    command TEXT NOT NULL,
    thaw_at REAL NOT NULL                   -- wall clock
) WITHOUT ROWID;
"""

_V4 = """
CREATE TABLE temporary (                    -- what a copy job has made and not taken away; outlives the request
    seq INTEGER PRIMARY KEY,
    command TEXT NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    UNIQUE (command, kind, target)
);
CREATE INDEX temporary_target ON temporary (kind, target);
ALTER TABLE command ADD COLUMN stops INTEGER NOT NULL DEFAULT 0;   -- attempts that the agent ended because it stopped
"""

_V5 = """
CREATE TABLE migration (                    -- machines that come from another host, or go to one
    id TEXT PRIMARY KEY,
    role TEXT CHECK (role IN ('source', 'destination')),
    vm TEXT NOT NULL,
    name TEXT NOT NULL,
    peer TEXT NOT NULL,                     -- the other host
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'finished', 'rolled-back')),
    moved INTEGER NOT NULL DEFAULT 0,       -- 1: it was seen to run on the destination
    since REAL NOT NULL,                    -- wall clock, as the two below
    expires_at REAL NOT NULL,
    ended_at REAL,
    reported INTEGER NOT NULL DEFAULT 0     -- 1: somebody was told that it has expired
) WITHOUT ROWID;
CREATE INDEX open_migration ON migration (vm) WHERE state = 'open';

CREATE TABLE migration_disk (
    migration TEXT NOT NULL REFERENCES migration (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,                -- in the order in which they are attached
    global_id TEXT NOT NULL,
    mode TEXT NOT NULL,
    attached_now INTEGER NOT NULL,          -- 1: this migration has attached it here, or was about to
    encrypted INTEGER NOT NULL,
    PRIMARY KEY (migration, global_id)
) WITHOUT ROWID;
CREATE INDEX migration_volume ON migration_disk (global_id);
"""

_STEPS = (_V1, _V2, _V3, _V4, _V5)
SCHEMA_VERSION = len(_STEPS)


class NewerSchema(sqlite3.DatabaseError):
    """The file was written by a newer agent."""


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this version. Raises NewerSchema, and changes nothing, when it is beyond it."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise NewerSchema(f"written by a newer agent (schema {version}, this one knows {SCHEMA_VERSION})")
    for number, step in enumerate(_STEPS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {step} PRAGMA user_version = {number}; COMMIT;")
