-- Shared dialect: TEXT, BIGINT (times are microseconds), BLOB; JSON is TEXT; {SEQUENCE} is a growing 64-bit key;
-- {BY_KEY} keeps small rows in the tree of their key, where the back end can: one write less for each.

CREATE TABLE trigger_instances (
    id TEXT PRIMARY KEY,
    trigger_identity TEXT NOT NULL,
    trigger_type TEXT NOT NULL,
    payload TEXT NOT NULL,
    occurred_at BIGINT NOT NULL,
    trace_tag TEXT NOT NULL,
    status TEXT NOT NULL,
    processed_at BIGINT,
    catalogue_version BIGINT
);
CREATE INDEX trigger_instances_pending ON trigger_instances (id) WHERE status = 'pending';

CREATE TABLE deduplication (
    trigger_type TEXT NOT NULL,
    dedupe_key TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (trigger_type, dedupe_key)
) {BY_KEY};
CREATE INDEX deduplication_expiry ON deduplication (expires_at);

-- Instances that are to happen later unless they are withdrawn (a recovery that must last).
CREATE TABLE held_instances (
    hold_key TEXT PRIMARY KEY,
    instance_id TEXT NOT NULL,
    trigger_identity TEXT NOT NULL,
    trigger_type TEXT NOT NULL,
    payload TEXT NOT NULL,
    trace_tag TEXT NOT NULL,
    occurred_at BIGINT NOT NULL,
    due_at BIGINT NOT NULL
);
CREATE INDEX held_instances_due ON held_instances (due_at);

CREATE TABLE timers (
    trigger_identity TEXT PRIMARY KEY,
    anchor_at BIGINT NOT NULL,
    last_instant_at BIGINT,
    dropped BIGINT NOT NULL DEFAULT 0
) {BY_KEY};

CREATE TABLE enforcements (
    id TEXT PRIMARY KEY,
    instance_id TEXT NOT NULL,
    rule_ref TEXT NOT NULL,
    execution_id TEXT,
    status TEXT NOT NULL,
    failure_reason TEXT,
    enforced_at BIGINT NOT NULL,
    UNIQUE (instance_id, rule_ref)
) {BY_KEY};

CREATE TABLE rule_throttles (
    rule_ref TEXT NOT NULL,
    throttle_key TEXT NOT NULL,
    holder TEXT NOT NULL,
    until_at BIGINT NOT NULL,
    PRIMARY KEY (rule_ref, throttle_key)
) {BY_KEY};

CREATE TABLE executions (
    id TEXT PRIMARY KEY,
    action_ref TEXT NOT NULL,
    runner TEXT NOT NULL,
    status TEXT NOT NULL,
    parent_id TEXT,
    parent_position TEXT,
    root_id TEXT NOT NULL,
    parameters TEXT NOT NULL,
    context TEXT NOT NULL,
    user_name TEXT NOT NULL,
    on_lost TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    fence BIGINT NOT NULL,
    result TEXT,
    result_size_bytes BIGINT NOT NULL DEFAULT 0,
    status_log TEXT NOT NULL
);
CREATE INDEX executions_children ON executions (parent_id, id) WHERE parent_id IS NOT NULL;
CREATE INDEX executions_tree ON executions (root_id) WHERE parent_id IS NOT NULL;
CREATE INDEX executions_unfinished ON executions (status, id)
    WHERE status NOT IN ('succeeded', 'failed', 'timeout', 'canceled', 'abandoned');

-- What every unfinished execution waits for: queue, lease, slot, timer, timeout, signal, inquiry.
CREATE TABLE obligations (
    execution_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    obligation_key TEXT NOT NULL,
    due_at BIGINT,
    owner TEXT,
    token TEXT,
    detail TEXT,
    PRIMARY KEY (execution_id, kind, obligation_key)
) {BY_KEY};
CREATE INDEX obligations_due ON obligations (kind, due_at);
CREATE INDEX obligations_detail ON obligations (detail) WHERE detail IS NOT NULL;

CREATE TABLE slots (
    slot_key TEXT NOT NULL,
    execution_id TEXT NOT NULL,
    PRIMARY KEY (slot_key, execution_id)
) {BY_KEY};
CREATE INDEX slots_holder ON slots (execution_id);

CREATE TABLE journal (
    execution_id TEXT NOT NULL,
    position TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    request TEXT NOT NULL,
    outcome TEXT,
    child_id TEXT,
    recorded_at BIGINT NOT NULL,
    PRIMARY KEY (execution_id, position)
) {BY_KEY};

CREATE TABLE bundles (
    digest TEXT PRIMARY KEY,
    content TEXT NOT NULL
);

CREATE TABLE workflows (
    execution_id TEXT PRIMARY KEY,
    bundle_digest TEXT NOT NULL,
    -- The engine's own: written by turns.
    state TEXT NOT NULL,
    -- What people and time told it: written from outside, never by a turn.
    steering TEXT NOT NULL
);
CREATE INDEX workflows_bundle ON workflows (bundle_digest);

CREATE TABLE signals (
    name TEXT NOT NULL,
    correlation TEXT NOT NULL,
    sender_id TEXT NOT NULL,
    payload TEXT NOT NULL,
    received_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    taken_by TEXT,
    PRIMARY KEY (name, correlation, sender_id)
) {BY_KEY};

CREATE TABLE output (
    execution_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    stream TEXT NOT NULL,
    text TEXT NOT NULL,
    written_at BIGINT NOT NULL,
    PRIMARY KEY (execution_id, sequence)
) {BY_KEY};
CREATE INDEX output_age ON output (written_at);

CREATE TABLE blobs (
    owner TEXT NOT NULL,
    chunk BIGINT NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (owner, chunk)
);

CREATE TABLE key_values (
    scope TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    secret BIGINT NOT NULL,
    version BIGINT NOT NULL,
    expires_at BIGINT,
    PRIMARY KEY (scope, name)
) {BY_KEY};

CREATE TABLE asg_groups (
    name TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    state TEXT NOT NULL
);

CREATE TABLE asg_nodes (
    group_name TEXT NOT NULL,
    name TEXT NOT NULL,
    phase TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (group_name, name)
);

CREATE TABLE asg_incidents (
    group_name TEXT NOT NULL,
    incident_key TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (group_name, incident_key)
);

CREATE TABLE asg_activities (
    id TEXT PRIMARY KEY,
    group_name TEXT NOT NULL,
    status TEXT NOT NULL,
    execution_id TEXT,
    state TEXT NOT NULL
);
CREATE INDEX asg_activities_group ON asg_activities (group_name, id);
CREATE INDEX asg_activities_execution ON asg_activities (execution_id);

CREATE TABLE asg_decisions (
    sequence {SEQUENCE},
    group_name TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    times BIGINT NOT NULL,
    decision TEXT NOT NULL
);
CREATE INDEX asg_decisions_group ON asg_decisions (group_name, sequence);

CREATE TABLE announcements (
    sequence {SEQUENCE},
    name TEXT NOT NULL,
    subject TEXT NOT NULL,
    payload TEXT,
    announced_at BIGINT NOT NULL
);

CREATE TABLE last_good_content (
    uid TEXT PRIMARY KEY,
    file TEXT NOT NULL,
    content TEXT NOT NULL
);

CREATE TABLE rule_layer (
    rule_ref TEXT PRIMARY KEY,
    enabled BIGINT,
    definition TEXT
);

CREATE TABLE users (
    name TEXT PRIMARY KEY,
    password_hash TEXT,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    user_name TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    key_hash TEXT NOT NULL UNIQUE,
    user_name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE audit (
    sequence {SEQUENCE},
    at BIGINT NOT NULL,
    user_name TEXT NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT NOT NULL
);

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) {BY_KEY};
