-- +goose Up

-- Times are microseconds since 1970 UTC, 0 is none. Column station holds a
-- folded identity; id is a UUIDv7, so that its order is that of creation.

-- Ids that are numbers are handed out from here in blocks.
CREATE TABLE counter (
	name TEXT PRIMARY KEY,
	next BIGINT NOT NULL
);

-- What a station said of itself, and which connection it has.
CREATE TABLE station_state (
	station           TEXT PRIMARY KEY,
	identity          TEXT NOT NULL,
	registration      TEXT NOT NULL,
	registration_at   BIGINT NOT NULL,
	version           TEXT NOT NULL DEFAULT '',
	vendor            TEXT NOT NULL DEFAULT '',
	model             TEXT NOT NULL DEFAULT '',
	serial            TEXT NOT NULL DEFAULT '',
	firmware          TEXT NOT NULL DEFAULT '',
	boot_reason       TEXT NOT NULL DEFAULT '',
	boot_at           BIGINT NOT NULL DEFAULT 0,
	boot_quality      TEXT NOT NULL DEFAULT '',
	first_seen        BIGINT NOT NULL,
	connected         BOOLEAN NOT NULL DEFAULT FALSE,
	gateway           TEXT NOT NULL DEFAULT '',
	epoch             BIGINT NOT NULL DEFAULT 0,
	profile           BIGINT NOT NULL DEFAULT 0,
	remote            TEXT NOT NULL DEFAULT '',
	since             BIGINT NOT NULL DEFAULT 0,
	connection_at     BIGINT NOT NULL DEFAULT 0,
	disconnect_reason TEXT NOT NULL DEFAULT ''
);
CREATE INDEX station_state_registration ON station_state (registration_at);
CREATE INDEX station_state_gateway ON station_state (gateway) WHERE connected;

-- When a station was last heard of: written in bulk, apart from station_state.
CREATE TABLE station_seen (
	station   TEXT PRIMARY KEY,
	last_seen BIGINT NOT NULL
);

-- Actions that a station may send before it is accepted, because it was asked to.
CREATE TABLE allowance (
	station TEXT NOT NULL,
	action  TEXT NOT NULL,
	until   BIGINT NOT NULL,
	PRIMARY KEY (station, action)
);

CREATE TABLE connector (
	station           TEXT NOT NULL,
	evse              BIGINT NOT NULL,
	connector         BIGINT NOT NULL,
	status            TEXT NOT NULL,
	error_code        TEXT NOT NULL,
	vendor_error_code TEXT NOT NULL,
	vendor_id         TEXT NOT NULL,
	info              TEXT NOT NULL,
	since             BIGINT NOT NULL,
	received_at       BIGINT NOT NULL,
	quality           TEXT NOT NULL,
	PRIMARY KEY (station, evse, connector)
);

CREATE TABLE id_token (
	token       TEXT PRIMARY KEY,
	spelling    TEXT NOT NULL,
	type        TEXT NOT NULL,
	status      TEXT NOT NULL,
	expires_at  BIGINT NOT NULL,
	group_token TEXT NOT NULL,
	group_key   TEXT NOT NULL,
	note        TEXT NOT NULL,
	created_at  BIGINT NOT NULL,
	updated_at  BIGINT NOT NULL
);

CREATE TABLE charging_transaction (
	id               TEXT PRIMARY KEY,
	station          TEXT NOT NULL,
	transaction_id   TEXT NOT NULL,
	version          TEXT NOT NULL,
	start_key        TEXT,
	evse             BIGINT NOT NULL,
	connector        BIGINT NOT NULL,
	token            TEXT NOT NULL,
	token_key        TEXT NOT NULL,
	token_type       TEXT NOT NULL,
	token_status     TEXT NOT NULL,
	remote_start_id  BIGINT,
	reservation_id   BIGINT,
	started_at       BIGINT NOT NULL,
	start_received   BIGINT NOT NULL,
	ended_at         BIGINT NOT NULL,
	end_received     BIGINT NOT NULL,
	meter_start      DOUBLE PRECISION,
	meter_stop       DOUBLE PRECISION,
	meter_last       DOUBLE PRECISION,
	meter_last_at    BIGINT NOT NULL,
	charging_state   TEXT NOT NULL,
	stopped_reason   TEXT NOT NULL,
	stop_token       TEXT NOT NULL,
	orphan           BOOLEAN NOT NULL,
	offline          BOOLEAN NOT NULL,
	events           BIGINT NOT NULL,
	seq_min          BIGINT NOT NULL,
	seq_max          BIGINT NOT NULL,
	quality          TEXT NOT NULL,
	open             BOOLEAN NOT NULL,
	UNIQUE (station, transaction_id),
	UNIQUE (station, start_key)
);
CREATE INDEX charging_transaction_station ON charging_transaction (station, id);
CREATE INDEX charging_transaction_open ON charging_transaction (token_key) WHERE open;

CREATE TABLE transaction_event (
	station        TEXT NOT NULL,
	transaction_id TEXT NOT NULL,
	seq_no         BIGINT NOT NULL,
	type           TEXT NOT NULL,
	trigger_reason TEXT NOT NULL,
	at             BIGINT NOT NULL,
	received_at    BIGINT NOT NULL,
	offline        BOOLEAN NOT NULL,
	charging_state TEXT NOT NULL,
	token          TEXT NOT NULL,
	digest         TEXT NOT NULL,
	quality        TEXT NOT NULL,
	PRIMARY KEY (station, transaction_id, seq_no)
);

CREATE TABLE meter_value (
	station        TEXT NOT NULL,
	at             BIGINT NOT NULL,
	digest         TEXT NOT NULL,
	transaction_id TEXT NOT NULL,
	seq_no         BIGINT,
	evse           BIGINT NOT NULL,
	connector      BIGINT NOT NULL,
	samples        TEXT NOT NULL,
	received_at    BIGINT NOT NULL,
	quality        TEXT NOT NULL,
	PRIMARY KEY (station, at, digest)
);
CREATE INDEX meter_value_transaction ON meter_value (station, transaction_id, at, digest);

CREATE TABLE variable (
	station            TEXT NOT NULL,
	component          TEXT NOT NULL,
	component_instance TEXT NOT NULL,
	evse               BIGINT NOT NULL,
	connector          BIGINT NOT NULL,
	variable           TEXT NOT NULL,
	variable_instance  TEXT NOT NULL,
	attribute          TEXT NOT NULL,
	value              TEXT NOT NULL,
	mutability         TEXT NOT NULL,
	data_type          TEXT NOT NULL,
	characteristics    TEXT NOT NULL,
	received_at        BIGINT NOT NULL,
	PRIMARY KEY (station, component, component_instance, evse, connector, variable, variable_instance, attribute)
);

-- The audit record of what operators and Holdfast itself asked of stations.
CREATE TABLE command (
	id                TEXT PRIMARY KEY,
	station           TEXT NOT NULL,
	version           TEXT NOT NULL,
	action            TEXT NOT NULL,
	payload           TEXT NOT NULL,
	requested_by      TEXT NOT NULL,
	created_at        BIGINT NOT NULL,
	deadline          BIGINT NOT NULL,
	finished_at       BIGINT NOT NULL,
	result            TEXT NOT NULL,
	answer            TEXT NOT NULL,
	error_code        TEXT NOT NULL,
	error_description TEXT NOT NULL
);
CREATE INDEX command_station ON command (station, id);
CREATE INDEX command_created ON command (created_at);

CREATE TABLE security_event (
	id          TEXT PRIMARY KEY,
	station     TEXT NOT NULL,
	type        TEXT NOT NULL,
	at          BIGINT NOT NULL,
	received_at BIGINT NOT NULL,
	tech_info   TEXT NOT NULL,
	digest      TEXT NOT NULL,
	quality     TEXT NOT NULL,
	UNIQUE (station, digest)
);
CREATE INDEX security_event_station ON security_event (station, id);

-- The last state of what takes a while: firmware, diagnostics, log.
CREATE TABLE progress (
	station     TEXT NOT NULL,
	kind        TEXT NOT NULL,
	status      TEXT NOT NULL,
	request_id  BIGINT,
	since       BIGINT NOT NULL,
	received_at BIGINT NOT NULL,
	quality     TEXT NOT NULL,
	PRIMARY KEY (station, kind)
);

-- Messages that no rule of ours reads, the newest of each station and action.
CREATE TABLE recorded (
	id          TEXT PRIMARY KEY,
	station     TEXT NOT NULL,
	version     TEXT NOT NULL,
	action      TEXT NOT NULL,
	payload     TEXT NOT NULL,
	digest      TEXT NOT NULL,
	received_at BIGINT NOT NULL,
	quality     TEXT NOT NULL,
	UNIQUE (station, action, digest)
);
CREATE INDEX recorded_station ON recorded (station, id);
CREATE INDEX recorded_action ON recorded (station, action, id);
