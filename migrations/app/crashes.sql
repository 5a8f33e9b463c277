-- Executions that were at work when their worker died, and how often that was so in a row, without a step recorded in
-- between. The row goes when the execution has ended, was parked or resumed.

CREATE TABLE IF NOT EXISTS "{prefix}crashes" (
    workflow_id text PRIMARY KEY,
    crashes     integer NOT NULL CHECK (crashes > 0),
    steps       bigint NOT NULL,  -- recorded at the last crash
    attempts    bigint NOT NULL,  -- claims at the last crash; a resume begins them anew
    worker_id   text NOT NULL,    -- who died last, and where
    incarnation uuid,
    host        text,
    reason      text NOT NULL,
    crashed_at  timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX IF NOT EXISTS "{prefix}crashes_crashes_idx" ON "{prefix}crashes" (crashes);
