-- Which evidence packs left the house: for whom, about whom, and what they were.
CREATE TABLE evidence_pack (
    pack_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id integer NOT NULL REFERENCES meter,
    account_id integer NOT NULL REFERENCES account,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    made_at timestamptz NOT NULL,
    made_by integer REFERENCES operator,  -- null: on the machine itself
    bytes bigint NOT NULL,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    fingerprint text NOT NULL,
    CONSTRAINT a_pack_is_about_a_stretch_of_time CHECK (until > since)
);
CREATE INDEX packs_of_a_meter ON evidence_pack (meter_id, made_at DESC);
CREATE TRIGGER evidence_pack_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON evidence_pack
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
