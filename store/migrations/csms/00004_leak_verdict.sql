-- +goose Up

-- What the leak detectors of all processes found.
CREATE TABLE leak_verdict (
	id           TEXT PRIMARY KEY,
	process      TEXT NOT NULL,
	class        TEXT NOT NULL,
	cohort       TEXT NOT NULL,
	state        TEXT NOT NULL,
	at           BIGINT NOT NULL,
	changed      BIGINT NOT NULL,
	ended        BIGINT NOT NULL,
	onset        BIGINT NOT NULL,
	kept         DOUBLE PRECISION NOT NULL,
	window_hours INTEGER NOT NULL,
	growth       DOUBLE PRECISION NOT NULL,
	p            DOUBLE PRECISION NOT NULL,
	forecast     TEXT NOT NULL,
	summary      TEXT NOT NULL
);
CREATE INDEX leak_verdict_changed ON leak_verdict (changed, id);
