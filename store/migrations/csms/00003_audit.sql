-- +goose Up

-- Who changed what with the management core; the same table as the authority's.
CREATE TABLE audit (
	id       TEXT PRIMARY KEY,
	at       BIGINT NOT NULL,
	who      TEXT NOT NULL,
	action   TEXT NOT NULL,
	station  TEXT NOT NULL,
	identity TEXT NOT NULL,
	subject  TEXT NOT NULL,
	detail   TEXT NOT NULL
);
CREATE INDEX audit_station ON audit (station, id);
CREATE INDEX audit_at ON audit (at);
