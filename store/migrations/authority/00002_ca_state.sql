-- +goose Up

-- What a CA of ours does: issuing, next, previous or retired; empty for imported ones.
ALTER TABLE ca ADD COLUMN state TEXT NOT NULL DEFAULT '';

-- Of each kind, the one that was recorded last issues.
UPDATE ca SET state = 'previous' WHERE kind <> 'imported';
UPDATE ca SET state = 'issuing' WHERE kind <> 'imported'
	AND NOT EXISTS (SELECT 1 FROM ca newer WHERE newer.kind = ca.kind
		AND (newer.created > ca.created OR newer.created = ca.created AND newer.fingerprint > ca.fingerprint));
