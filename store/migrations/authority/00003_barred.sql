-- +goose Up

-- Who must not be connected, the latest first: gateways are told again and again.
CREATE INDEX station_blocked ON station (updated) WHERE blocked;
CREATE INDEX audit_removed ON audit (id) WHERE action = 'station.remove';
