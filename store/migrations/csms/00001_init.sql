-- +goose Up
CREATE TABLE counter (
	name TEXT PRIMARY KEY,
	next BIGINT NOT NULL
);
