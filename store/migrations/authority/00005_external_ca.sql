-- +goose Up

-- The address of the CA elsewhere that issued a certificate on our request;
-- empty: a CA of ours did, or it was only seen.
ALTER TABLE certificate ADD COLUMN external_ca TEXT NOT NULL DEFAULT '';
