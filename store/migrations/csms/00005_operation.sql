-- +goose Up

-- Changes of stations' credentials, each a row of steps. open: it is neither
-- queued in a campaign nor over.
CREATE TABLE operation (
	id           TEXT PRIMARY KEY,
	station      TEXT NOT NULL,
	identity     TEXT NOT NULL,
	kind         TEXT NOT NULL,
	status       TEXT NOT NULL,
	open         BOOLEAN NOT NULL,
	step         TEXT NOT NULL,
	step_at      BIGINT NOT NULL,
	tries        BIGINT NOT NULL, -- of this step that failed
	cause        TEXT NOT NULL,
	requested_by TEXT NOT NULL,
	campaign     TEXT NOT NULL,
	params       TEXT NOT NULL, -- JSON, what was asked for
	memory       TEXT NOT NULL, -- JSON, what the steps keep
	request      TEXT NOT NULL, -- JSON, the certificate signing request that the station sent last
	cancelled_by TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	started_at   BIGINT NOT NULL,
	updated_at   BIGINT NOT NULL,
	deadline     BIGINT NOT NULL,
	finished_at  BIGINT NOT NULL,
	next_at      BIGINT NOT NULL, -- when it is looked at again
	signals      BIGINT NOT NULL, -- grows when the station did something
	holder       TEXT NOT NULL,   -- process that works on it
	held_until   BIGINT NOT NULL
);
-- Whoever asks twice gets the same operation.
CREATE UNIQUE INDEX operation_one ON operation (station, kind) WHERE finished_at = 0;
CREATE INDEX operation_station ON operation (station, id);
CREATE INDEX operation_due ON operation (next_at) WHERE open;
CREATE INDEX operation_open ON operation (station) WHERE open;
CREATE INDEX operation_campaign ON operation (campaign, status, id);
CREATE INDEX operation_finished ON operation (finished_at);

CREATE TABLE operation_step (
	operation TEXT NOT NULL,
	seq       BIGINT NOT NULL,
	at        BIGINT NOT NULL,
	step      TEXT NOT NULL,
	outcome   TEXT NOT NULL,
	detail    TEXT NOT NULL,
	command   TEXT NOT NULL,
	PRIMARY KEY (operation, seq)
);
