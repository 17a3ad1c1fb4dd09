-- Secrets that a step knew when it ended, encrypted: its workflow masks them from its next turn on.
ALTER TABLE journal ADD COLUMN sealed_secrets TEXT;
