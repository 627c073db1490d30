-- Recharge terminals: the caps they sell under while they are alone, what they sold, and what of it
-- does not fit.

ALTER TABLE gateway DROP CONSTRAINT a_gateway_is_of_a_known_kind;
ALTER TABLE gateway ADD CONSTRAINT a_gateway_is_of_a_known_kind CHECK (
    kind IN ('serial', 'tcp', 'dtu', 'acrel_4g', 'acrel_gateway', 'terminal', 'modbus_tcp',
        'mqtt'));

-- What a terminal may sell while nobody answers it, sealed by the key service.
CREATE TABLE terminal_cap (
    cap_number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    terminal text NOT NULL,  -- the name in its credential, which outlives its place
    day date NOT NULL,  -- of the site
    card_fen bigint NOT NULL,
    total_fen bigint NOT NULL,
    first_sequence bigint NOT NULL CHECK (first_sequence >= 1),
    valid_until timestamptz NOT NULL,
    key_version integer,
    mac bytea,  -- null: the key service was asked and has not answered, so it was never given out
    issued_at timestamptz NOT NULL,
    issued_by integer NOT NULL REFERENCES operator,
    approved_by integer NOT NULL REFERENCES operator,
    reason text NOT NULL CHECK (reason <> ''),
    CONSTRAINT a_cap_is_one_fen_to_50000_yuan
        CHECK (card_fen BETWEEN 1 AND total_fen AND total_fen BETWEEN 1 AND 5000000),
    CONSTRAINT a_cap_ends_after_it_began CHECK (valid_until > issued_at),
    CONSTRAINT a_sealed_cap_names_its_key CHECK ((mac IS NULL) = (key_version IS NULL)),
    CONSTRAINT who_issues_a_cap_does_not_approve_it CHECK (issued_by <> approved_by)
);
CREATE INDEX caps_of_a_terminal ON terminal_cap (terminal, cap_number);

-- Its log, record by record, as it was taken over: numbered without a gap, each MAC over the last.
CREATE TABLE island_sale (
    terminal text NOT NULL,
    sequence bigint NOT NULL CHECK (sequence >= 1),
    mac bytea NOT NULL,
    cap_number integer NOT NULL,  -- as it told; it may be none of ours
    serial bytea NOT NULL,
    meter_number text NOT NULL,
    meter_id integer REFERENCES meter,  -- null: none of that number is behind it
    purchase_count bigint NOT NULL,
    amount_fen bigint NOT NULL,
    after_count bigint,
    after_total_fen bigint,
    sold_at timestamptz NOT NULL,  -- by its own clock
    taken_at timestamptz NOT NULL,
    -- landed: this booked it; known: the books had it already; waiting: the meter is looked at;
    -- clash: a person decides, and the clash says what
    state text NOT NULL CHECK (state IN ('landed', 'known', 'waiting', 'clash')),
    PRIMARY KEY (terminal, sequence)
);
CREATE INDEX island_sales_of_a_cap ON island_sale (terminal, cap_number);
CREATE INDEX island_sales_that_wait ON island_sale (taken_at) WHERE state = 'waiting';

CREATE FUNCTION island_sale_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (to_jsonb(NEW) - 'state') IS DISTINCT FROM (to_jsonb(OLD) - 'state')
        OR OLD.state NOT IN ('waiting', 'clash') THEN
        RAISE 'island sale % of %: what was reported is never changed', OLD.sequence, OLD.terminal
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_island_sale_stays_as_it_was_told';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER island_sale_moves BEFORE UPDATE ON island_sale
    FOR EACH ROW EXECUTE FUNCTION island_sale_moves();
CREATE TRIGGER island_sales_are_kept BEFORE DELETE OR TRUNCATE ON island_sale
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- What does not fit, once each, until a person has settled it.
CREATE TABLE terminal_clash (
    clash_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    terminal text NOT NULL,
    sequence bigint NOT NULL,
    code text NOT NULL,
    record jsonb NOT NULL,  -- as it was reported
    detail text NOT NULL,
    found_at timestamptz NOT NULL,
    settled_at timestamptz,
    settled_by integer REFERENCES operator,
    settled_how text CHECK (settled_how IN ('booked', 'dismissed')),
    reason text,
    CONSTRAINT a_clash_is_found_once UNIQUE (terminal, sequence, code, record),
    CONSTRAINT a_clash_is_settled_by_somebody_for_a_reason CHECK (
        (settled_at IS NULL) = (settled_by IS NULL) AND (settled_at IS NULL) = (settled_how IS NULL)
        AND (settled_at IS NULL) = (reason IS NULL))
);
CREATE INDEX clashes_that_stand ON terminal_clash (clash_id) WHERE settled_at IS NULL;
CREATE TRIGGER clashes_are_kept BEFORE DELETE OR TRUNCATE ON terminal_clash
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- A tap or a purchase at a terminal under an id of its own: the same id again is the same one.
CREATE TABLE terminal_tap (
    tap_id uuid PRIMARY KEY,
    terminal text NOT NULL,
    serial bytea NOT NULL,
    command_id uuid NOT NULL REFERENCES command,
    at timestamptz NOT NULL
);
CREATE TRIGGER terminal_tap_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON terminal_tap
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
