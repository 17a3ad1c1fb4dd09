-- What several daemons over one store have to know of each other.

-- Every daemon says now and then that it lives.
CREATE TABLE daemons (
    owner TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    version TEXT NOT NULL,
    roles TEXT NOT NULL,
    api TEXT NOT NULL,
    catalogue TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL
);

-- What only one daemon does at a time, and until when it is its.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    until_at BIGINT NOT NULL
) {BY_KEY};

-- Catalogues that were published for all daemons; the files lie in blobs.
CREATE TABLE published_catalogues (
    version BIGINT PRIMARY KEY,
    digest TEXT NOT NULL,
    published_by TEXT NOT NULL,
    published_at BIGINT NOT NULL
);

-- Messages of which no daemon can make sense, kept until a person decides.
CREATE TABLE dead_letters (
    id TEXT PRIMARY KEY,
    source TEXT NOT NULL,
    reason TEXT NOT NULL,
    body BLOB NOT NULL,
    received_at BIGINT NOT NULL
);
