-- Withdrawals, for what they withdraw may come after them.
CREATE TABLE withdrawn_holds (
    hold_key TEXT PRIMARY KEY,
    said_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
) {BY_KEY};
CREATE INDEX withdrawn_holds_expiry ON withdrawn_holds (expires_at);
