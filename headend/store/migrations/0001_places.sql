-- The property tree and the wires to it, as imported from site files.
--
-- Names come from the file and are what people know a thing by; numbers are ours and never change,
-- because readings hang on them. What vanishes from a file is retired, never deleted. What must be
-- one of a kind is so among the living only: a retired meter's address is free for the next one.
-- These rules are deferrable, so that one import may swap two addresses.

CREATE TABLE site (
    site_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT two_sites_cannot_share_a_name UNIQUE,
    time_zone text NOT NULL,
    -- On the site's own wall clock: the only local times in this database, and they are rules, not
    -- instants.
    night_opens time NOT NULL,
    night_closes time NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT a_night_cannot_close_when_it_opens CHECK (night_opens <> night_closes)
);

CREATE TABLE building (
    building_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES site,
    name text NOT NULL,
    retired_at timestamptz,
    CONSTRAINT two_buildings_of_a_site_cannot_share_a_name UNIQUE (site_id, name)
);

CREATE TABLE room (
    room_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES site,
    building_id integer NOT NULL REFERENCES building,
    name text NOT NULL,
    floor integer,
    retired_at timestamptz,
    CONSTRAINT two_rooms_of_a_site_cannot_share_a_name UNIQUE (site_id, name)
);

CREATE TABLE gateway (
    gateway_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES site,
    name text NOT NULL,
    kind text NOT NULL CONSTRAINT a_gateway_is_of_a_known_kind
        CHECK (kind IN ('serial', 'tcp', 'dtu')),
    device text,
    host text,
    port integer,
    registration text,
    heartbeat text,
    heartbeat_s integer NOT NULL,
    retired_at timestamptz,
    CONSTRAINT two_gateways_of_a_site_cannot_share_a_name UNIQUE (site_id, name),
    CONSTRAINT a_gateway_says_where_it_is CHECK (
        CASE kind
            WHEN 'serial' THEN device IS NOT NULL
            WHEN 'tcp' THEN host IS NOT NULL AND port BETWEEN 1 AND 65535
            ELSE registration IS NOT NULL
        END
    ),
    CONSTRAINT two_live_gateways_cannot_share_a_name
        EXCLUDE (name WITH =) WHERE (retired_at IS NULL) DEFERRABLE,
    -- Two owners of one serial port would break each other's frames.
    CONSTRAINT two_live_gateways_cannot_share_a_serial_device
        EXCLUDE (device WITH =) WHERE (retired_at IS NULL) DEFERRABLE,
    CONSTRAINT two_live_gateways_cannot_share_a_tcp_address
        EXCLUDE (host WITH =, port WITH =) WHERE (retired_at IS NULL) DEFERRABLE,
    CONSTRAINT two_live_gateways_cannot_share_a_registration
        EXCLUDE (registration WITH =) WHERE (retired_at IS NULL) DEFERRABLE
);

CREATE TABLE line (
    line_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES site,
    gateway_id integer NOT NULL REFERENCES gateway,
    name text NOT NULL,
    baud integer NOT NULL,
    parity text NOT NULL CONSTRAINT parity_is_none_even_or_odd CHECK (parity IN ('N', 'E', 'O')),
    stop_bits integer NOT NULL,
    reply_timeout_ms integer,
    reply_late_ms_max integer,
    turnaround_ms integer NOT NULL,
    retired_at timestamptz,
    CONSTRAINT two_lines_of_a_site_cannot_share_a_name UNIQUE (site_id, name),
    CONSTRAINT two_live_lines_cannot_share_a_name
        EXCLUDE (name WITH =) WHERE (retired_at IS NULL) DEFERRABLE
);

CREATE TABLE cabinet (
    cabinet_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES site,
    line_id integer NOT NULL REFERENCES line,
    name text NOT NULL,
    meter_type text NOT NULL,
    base_unit integer NOT NULL,
    size integer NOT NULL,
    ct_users integer NOT NULL,
    three_phase_users integer NOT NULL,
    single_phase_users integer NOT NULL,
    retired_at timestamptz,
    CONSTRAINT two_cabinets_of_a_site_cannot_share_a_name UNIQUE (site_id, name)
);

CREATE TABLE meter (
    meter_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES site,
    line_id integer NOT NULL REFERENCES line,
    room_id integer REFERENCES room,
    cabinet_id integer REFERENCES cabinet,
    name text NOT NULL,
    meter_type text NOT NULL,
    unit integer NOT NULL CONSTRAINT a_unit_id_is_1_to_247 CHECK (unit BETWEEN 1 AND 247),
    meter_number text,
    energy_multiplier integer NOT NULL
        CONSTRAINT an_energy_multiplier_is_positive CHECK (energy_multiplier > 0),
    options jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    retired_at timestamptz,
    CONSTRAINT two_meters_of_a_site_cannot_share_a_name UNIQUE (site_id, name),
    CONSTRAINT two_live_meters_cannot_share_a_name
        EXCLUDE (name WITH =) WHERE (retired_at IS NULL) DEFERRABLE,
    -- Both would answer at once, and neither could be read.
    CONSTRAINT two_live_meters_of_a_line_cannot_share_a_unit_id
        EXCLUDE (line_id WITH =, unit WITH =) WHERE (retired_at IS NULL) DEFERRABLE
);
CREATE INDEX meters_of_a_site ON meter (site_id);
CREATE INDEX meters_of_a_line ON meter (line_id);

-- When a line fell and when it rose: one row for each, never for each failed try.
CREATE TABLE line_event (
    line_id integer NOT NULL REFERENCES line,
    at timestamptz NOT NULL,
    state text NOT NULL CONSTRAINT a_line_falls_or_rises CHECK (state IN ('down', 'up')),
    reason text NOT NULL,
    PRIMARY KEY (line_id, at)
);
