-- More roads to a meter: boxes that dial in with frames of their own, several ports of one box, and
-- meters that answer to a number instead of a unit id.

ALTER TABLE gateway DROP CONSTRAINT a_gateway_is_of_a_known_kind;
ALTER TABLE gateway ADD CONSTRAINT a_gateway_is_of_a_known_kind CHECK (
    kind IN ('serial', 'tcp', 'dtu', 'acrel_4g', 'acrel_gateway', 'modbus_tcp', 'mqtt'));
ALTER TABLE gateway DROP CONSTRAINT a_gateway_says_where_it_is;
ALTER TABLE gateway ADD CONSTRAINT a_gateway_says_where_it_is CHECK (
    CASE
        WHEN kind = 'serial' THEN device IS NOT NULL
        WHEN kind IN ('tcp', 'modbus_tcp') THEN host IS NOT NULL AND port BETWEEN 1 AND 65535
        ELSE registration IS NOT NULL
    END);
-- What only its kind has: the dialect of a DTU, the topics of an MQTT gateway.
ALTER TABLE gateway ADD COLUMN options jsonb NOT NULL DEFAULT '{}';
-- The same digits may be a phone number to one kind and a serial number to another.
ALTER TABLE gateway DROP CONSTRAINT two_live_gateways_cannot_share_a_registration;
ALTER TABLE gateway ADD CONSTRAINT two_live_gateways_cannot_share_a_registration
    EXCLUDE (kind WITH =, registration WITH =) WHERE (retired_at IS NULL) DEFERRABLE;

ALTER TABLE line ADD COLUMN port integer NOT NULL DEFAULT 1
    CONSTRAINT a_port_is_counted_from_one CHECK (port BETWEEN 1 AND 99);
ALTER TABLE line ADD CONSTRAINT two_live_lines_cannot_share_a_port
    EXCLUDE (gateway_id WITH =, port WITH =) WHERE (retired_at IS NULL) DEFERRABLE;

ALTER TABLE meter ALTER COLUMN unit DROP NOT NULL;
ALTER TABLE meter ADD COLUMN address text
    CONSTRAINT an_address_is_digits CHECK (address ~ '^[0-9]{1,20}$');
ALTER TABLE meter ADD CONSTRAINT a_meter_answers_to_a_unit_id_or_an_address
    CHECK ((unit IS NULL) <> (address IS NULL));
ALTER TABLE meter ADD CONSTRAINT two_live_meters_of_a_line_cannot_share_an_address
    EXCLUDE (line_id WITH =, address WITH =) WHERE (retired_at IS NULL) DEFERRABLE;
