import GRDB

/// The tables. A change is a new migration at the end, never an edit of one that was released.
enum Schema {
    static var migrator: DatabaseMigrator {
        var migrator = DatabaseMigrator()
        // STRICT: a column holds its type or the statement fails, so a row read back is what the code expects.
        migrator.registerMigration("1") { database in
            try database.execute(
                sql: """
                    CREATE TABLE users (
                        id TEXT NOT NULL PRIMARY KEY,
                        email TEXT NOT NULL UNIQUE,
                        name TEXT NOT NULL,
                        password_hash TEXT NOT NULL,
                        created_at INTEGER NOT NULL
                    ) STRICT;

                    CREATE TABLE join_tokens (
                        id TEXT NOT NULL PRIMARY KEY,
                        user_id TEXT NOT NULL,
                        name TEXT NOT NULL,
                        created_at INTEGER NOT NULL,
                        expires_at INTEGER,
                        revoked_at INTEGER
                    ) STRICT;
                    CREATE INDEX join_tokens_of_user ON join_tokens (user_id, created_at);

                    CREATE TABLE peers (
                        id TEXT NOT NULL PRIMARY KEY,
                        name TEXT NOT NULL,
                        owner_id TEXT NOT NULL,
                        token_id TEXT NOT NULL,
                        capabilities TEXT NOT NULL,
                        status TEXT NOT NULL,
                        session_id TEXT,
                        registration INTEGER NOT NULL,
                        registered_at INTEGER NOT NULL,
                        last_seen INTEGER NOT NULL
                    ) STRICT;
                    CREATE INDEX peers_of_session ON peers (session_id) WHERE session_id IS NOT NULL;

                    -- The last registration of peers that were deleted: a peer that comes back counts on from it, so that a late beat
                    -- of its former life is still refused.
                    CREATE TABLE deleted_peers (
                        id TEXT NOT NULL PRIMARY KEY,
                        registration INTEGER NOT NULL
                    ) STRICT;

                    -- `document` is the whole session as JSON; the other columns repeat what is searched and compared.
                    CREATE TABLE sessions (
                        id TEXT NOT NULL PRIMARY KEY,
                        owner_id TEXT NOT NULL,
                        created_at INTEGER NOT NULL,
                        status TEXT NOT NULL,
                        revision INTEGER NOT NULL,
                        generation INTEGER NOT NULL,
                        lease_owner TEXT,
                        lease_expires_at INTEGER,
                        document TEXT NOT NULL
                    ) STRICT;
                    CREATE INDEX sessions_of_owner ON sessions (owner_id, created_at);
                    CREATE INDEX sessions_unfinished ON sessions (created_at) WHERE status IN ('PENDING', 'RUNNING');

                    -- peer_id '' is the global model: NULLs would never be equal in the unique key.
                    CREATE TABLE metrics (
                        session_id TEXT NOT NULL,
                        peer_id TEXT NOT NULL,
                        round INTEGER NOT NULL,
                        epoch INTEGER NOT NULL,
                        peer_name TEXT,
                        loss REAL,
                        accuracy REAL,
                        r2 REAL,
                        samples_per_second REAL,
                        time INTEGER NOT NULL,
                        UNIQUE (session_id, peer_id, round, epoch)
                    ) STRICT;
                    """)
        }
        migrator.registerMigration("2") { database in
            try database.execute(
                sql: """
                    -- `document` is a round's summary as JSON.
                    CREATE TABLE rounds (
                        session_id TEXT NOT NULL,
                        round INTEGER NOT NULL,
                        document TEXT NOT NULL,
                        PRIMARY KEY (session_id, round)
                    ) STRICT, WITHOUT ROWID;

                    -- Answers to the round under way, until the document that has them all is stored.
                    CREATE TABLE answers (
                        session_id TEXT NOT NULL,
                        peer_id TEXT NOT NULL,
                        document TEXT NOT NULL,
                        PRIMARY KEY (session_id, peer_id)
                    ) STRICT, WITHOUT ROWID;

                    -- They stood inside the session's document before.
                    INSERT OR REPLACE INTO rounds (session_id, round, document)
                        SELECT sessions.id, json_extract(summary.value, '$.round'), summary.value
                        FROM sessions, json_each(sessions.document, '$.rounds') AS summary;
                    UPDATE sessions SET document = json_remove(document, '$.rounds');
                    """)
        }
        migrator.registerMigration("3") { database in
            try database.execute(
                sql: """
                    -- Final, but its peers are not freed yet.
                    ALTER TABLE sessions ADD COLUMN is_ending INTEGER NOT NULL DEFAULT 0;
                    ALTER TABLE sessions ADD COLUMN cancel_requested INTEGER NOT NULL DEFAULT 0;
                    UPDATE sessions SET cancel_requested = 1 WHERE json_extract(document, '$.cancel_requested');
                    ALTER TABLE sessions ADD COLUMN dataset_key TEXT;
                    CREATE UNIQUE INDEX sessions_dataset_key ON sessions (dataset_key) WHERE dataset_key IS NOT NULL;
                    DROP INDEX sessions_unfinished;
                    CREATE INDEX sessions_unfinished ON sessions (created_at) WHERE status IN ('PENDING', 'RUNNING') OR is_ending;
                    ALTER TABLE peers ADD COLUMN serve TEXT NOT NULL DEFAULT 'mine';
                    CREATE INDEX peers_free ON peers (name, id) WHERE session_id IS NULL AND status = 'ONLINE';
                    """)
        }
        migrator.registerMigration("4") { database in
            try database.execute(sql: "ALTER TABLE users ADD COLUMN password_changed_at INTEGER;")
        }
        migrator.registerMigration("5") { database in
            try database.execute(sql: "ALTER TABLE peers ADD COLUMN offline_reason TEXT;")
        }
        migrator.registerMigration("6") { database in
            try database.execute(
                sql: """
                    CREATE TABLE sign_ins (
                        id TEXT NOT NULL PRIMARY KEY,
                        user_id TEXT NOT NULL,
                        client TEXT NOT NULL,
                        network TEXT NOT NULL,
                        created_at INTEGER NOT NULL,
                        expires_at INTEGER NOT NULL
                    ) STRICT;
                    CREATE INDEX sign_ins_of_user ON sign_ins (user_id, created_at);
                    CREATE INDEX sign_ins_by_expiry ON sign_ins (expires_at);
                    -- Whoever registers asks for few columns of those with its name.
                    CREATE INDEX peers_by_name ON peers (name, id, status, last_seen);
                    CREATE INDEX peers_of_token ON peers (token_id) WHERE status <> 'OFFLINE';
                    -- Versions that models of one title were given.
                    CREATE TABLE model_versions (
                        session_id TEXT NOT NULL PRIMARY KEY,
                        owner_id TEXT NOT NULL,
                        title TEXT NOT NULL,
                        version INTEGER NOT NULL,
                        UNIQUE (owner_id, title, version)
                    ) STRICT, WITHOUT ROWID;
                    -- Sessions of one owner on the same file share it.
                    DROP INDEX sessions_dataset_key;
                    CREATE INDEX sessions_dataset_key ON sessions (dataset_key) WHERE dataset_key IS NOT NULL;
                    """)
        }
        migrator.registerMigration("7") { database in
            // Note, tags and links as JSON; they change beside the document.
            try database.execute(sql: "ALTER TABLE sessions ADD COLUMN labels TEXT;")
        }
        return migrator
    }
}
