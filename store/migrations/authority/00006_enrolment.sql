-- +goose Up

-- Keys for which a replica asks an external CA for a certificate right now, so
-- that no other does. A claim ends by itself, because its replica may.
CREATE TABLE enrolment (
    public_key TEXT PRIMARY KEY, -- SHA-256, hex
    holder     TEXT NOT NULL,
    until      BIGINT NOT NULL
);
