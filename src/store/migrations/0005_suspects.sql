-- What was being evaluated when a daemon died. Nobody evaluates it beside anything else until it has survived alone.
CREATE TABLE suspects (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    deaths BIGINT NOT NULL,
    rounds BIGINT NOT NULL,
    found_at BIGINT NOT NULL,
    tried_by TEXT,
    tried_until BIGINT,
    reason TEXT,
    PRIMARY KEY (kind, id)
) {BY_KEY};
