-- +goose Up

-- The latest revocation list of each imported CA that one was brought in of.
CREATE TABLE crl (
	ca          TEXT PRIMARY KEY, -- fingerprint of the CA's certificate
	issuer      TEXT NOT NULL,
	issuer_key  TEXT NOT NULL, -- subject key id, hex
	number      TEXT NOT NULL, -- decimal; empty: it has none
	this_update BIGINT NOT NULL,
	next_update BIGINT NOT NULL,
	imported    BIGINT NOT NULL,
	entries     BIGINT NOT NULL
);

-- What they list.
CREATE TABLE crl_entry (
	ca      TEXT NOT NULL,
	serial  TEXT NOT NULL, -- hex
	reason  TEXT NOT NULL,
	revoked BIGINT NOT NULL,
	PRIMARY KEY (ca, serial)
);

-- The CA whose list revokes a certificate; empty: it is not revoked, or was here.
ALTER TABLE certificate ADD COLUMN listed TEXT NOT NULL DEFAULT '';
CREATE INDEX certificate_listed ON certificate (listed) WHERE listed <> '';
