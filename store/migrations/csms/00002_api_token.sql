-- +goose Up

-- Tokens of the operator API. Only the SHA-256 of a token is kept; a name is
-- never used twice while its row is there, because the audit record cites it.
CREATE TABLE api_token (
	id           TEXT PRIMARY KEY,
	name         TEXT NOT NULL,
	name_key     TEXT NOT NULL UNIQUE,
	hash         TEXT NOT NULL UNIQUE,
	role         TEXT NOT NULL,
	created_by   TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	expires_at   BIGINT NOT NULL,
	last_used_at BIGINT NOT NULL,
	revoked_by   TEXT NOT NULL,
	revoked_at   BIGINT NOT NULL
);
