-- Passwords of MQTT gateways on our own broker. Shown once and never stored: what stands here is
-- what mosquitto's password file holds. None is ever deleted, so that the audit can say who gave
-- and who took away.

CREATE TABLE mqtt_password (
    password_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway_id integer NOT NULL REFERENCES gateway,
    hash text NOT NULL CONSTRAINT a_password_is_stored_as_its_hash
        CHECK (hash ~ '^\$7\$[0-9]+\$[A-Za-z0-9+/=]+\$[A-Za-z0-9+/=]+$'),
    created_at timestamptz NOT NULL,
    created_by integer NOT NULL REFERENCES operator,
    revoked_at timestamptz,
    revoked_by integer REFERENCES operator,
    CONSTRAINT who_revoked_stands_beside_when CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);
CREATE UNIQUE INDEX a_gateway_has_one_password ON mqtt_password (gateway_id)
    WHERE revoked_at IS NULL;
