-- +goose Up

-- Operations of one kind on many stations; how far they are is counted from
-- their rows.
CREATE TABLE campaign (
	id           TEXT PRIMARY KEY,
	kind         TEXT NOT NULL,
	status       TEXT NOT NULL,
	cause        TEXT NOT NULL,
	requested_by TEXT NOT NULL,
	params       TEXT NOT NULL, -- JSON, of each operation
	per_minute   BIGINT NOT NULL,
	max_failures BIGINT NOT NULL,
	halt_at      BIGINT NOT NULL, -- failures at which it halts
	created_at   BIGINT NOT NULL,
	finished_at  BIGINT NOT NULL,
	next_at      BIGINT NOT NULL, -- when the next operation is released
	time_limit   BIGINT NOT NULL  -- of each operation from its release, microseconds
);
CREATE INDEX campaign_open ON campaign (next_at) WHERE finished_at = 0;
