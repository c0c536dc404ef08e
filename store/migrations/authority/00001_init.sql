-- +goose Up
CREATE TABLE keep (
	name TEXT PRIMARY KEY
);
