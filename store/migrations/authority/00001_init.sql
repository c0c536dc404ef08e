-- +goose Up

-- Times are microseconds since 1970 UTC, 0 is none. Column station holds a
-- folded identity; id is a UUIDv7, so that its order is that of creation.

-- Who may connect, and how.
CREATE TABLE station (
	station          TEXT PRIMARY KEY,
	identity         TEXT NOT NULL,
	serial           TEXT NOT NULL,
	serial_key       TEXT NOT NULL, -- folded
	profile          BIGINT NOT NULL,
	previous_profile BIGINT NOT NULL,
	version          TEXT NOT NULL,
	quirks           TEXT NOT NULL,
	labels           TEXT NOT NULL,
	user_name        TEXT NOT NULL,
	blocked          BOOLEAN NOT NULL,
	blocked_reason   TEXT NOT NULL,
	password         TEXT NOT NULL, -- salted hash
	pending_password TEXT NOT NULL, -- salted hash; accepted beside password until its first success
	created          BIGINT NOT NULL,
	updated          BIGINT NOT NULL,
	last_at          BIGINT NOT NULL DEFAULT 0,
	last_reason      TEXT NOT NULL DEFAULT '',
	last_detail      TEXT NOT NULL DEFAULT '',
	last_remote      TEXT NOT NULL DEFAULT '',
	admitted_at      BIGINT NOT NULL DEFAULT 0
);

-- A serial number in a certificate names one station.
CREATE UNIQUE INDEX station_serial ON station (serial_key);

-- Every certificate that was issued here, or with which a station was admitted.
CREATE TABLE certificate (
	id          TEXT PRIMARY KEY,
	fingerprint TEXT NOT NULL, -- SHA-256 of DER
	serial      TEXT NOT NULL, -- hex
	issuer      TEXT NOT NULL,
	issuer_key  TEXT NOT NULL, -- authority key id, hex
	subject     TEXT NOT NULL,
	kind        TEXT NOT NULL,
	station     TEXT NOT NULL,
	identity    TEXT NOT NULL,
	issued      BOOLEAN NOT NULL,
	public_key  TEXT NOT NULL, -- SHA-256 of SubjectPublicKeyInfo; empty: the key may be certified anew
	not_before  BIGINT NOT NULL,
	not_after   BIGINT NOT NULL,
	created     BIGINT NOT NULL,
	first_used  BIGINT NOT NULL,
	status      TEXT NOT NULL,
	reason      TEXT NOT NULL,
	revoked     BIGINT NOT NULL,
	pem         TEXT NOT NULL
);

CREATE UNIQUE INDEX certificate_fingerprint ON certificate (fingerprint);
-- Two replicas that are asked to certify one key issue one certificate.
CREATE UNIQUE INDEX certificate_key ON certificate (station, public_key) WHERE public_key <> '';
CREATE INDEX certificate_serial ON certificate (serial);
CREATE INDEX certificate_station ON certificate (station, id);
CREATE INDEX certificate_revoked ON certificate (status, revoked);
CREATE INDEX certificate_not_after ON certificate (not_after);

-- The last attempts of each station to connect, repeated ones counted in one row.
CREATE TABLE attempt (
	station     TEXT NOT NULL,
	id          TEXT NOT NULL,
	identity    TEXT NOT NULL,
	reason      TEXT NOT NULL,
	detail      TEXT NOT NULL,
	profile     BIGINT NOT NULL,
	remote      TEXT NOT NULL,
	fingerprint TEXT NOT NULL,
	times       BIGINT NOT NULL,
	first_at    BIGINT NOT NULL,
	last_at     BIGINT NOT NULL,
	registered  BOOLEAN NOT NULL,
	PRIMARY KEY (station, id)
);

CREATE INDEX attempt_unregistered ON attempt (id) WHERE NOT registered;

-- Who did what.
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

-- The CA certificates that are trusted: our own, and imported ones.
CREATE TABLE ca (
	fingerprint TEXT PRIMARY KEY,
	kind        TEXT NOT NULL,
	subject     TEXT NOT NULL,
	not_after   BIGINT NOT NULL,
	created     BIGINT NOT NULL,
	pem         TEXT NOT NULL
);

-- Keys that seal TLS session tickets; period is the time of rotation divided by its interval.
CREATE TABLE ticket_key (
	period BIGINT PRIMARY KEY,
	secret TEXT NOT NULL
);

-- Counts changes of what gateways verify with.
CREATE TABLE generation (
	name  TEXT PRIMARY KEY,
	value BIGINT NOT NULL
);
INSERT INTO generation (name, value) VALUES ('trust', 1);
