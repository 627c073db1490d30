-- The desk: how people sign in, where they are signed in, and what they did there.

-- What an operator knows and has. Without a row nobody signs in under that name; tokens are apart.
CREATE TABLE operator_secret (
    operator_id integer PRIMARY KEY REFERENCES operator,
    password_argon2 text NOT NULL CONSTRAINT a_password_is_kept_as_argon2id
        CHECK (password_argon2 LIKE '$argon2id$%'),
    password_set_at timestamptz NOT NULL,
    -- Base32. It is in force once a first code was right; until then it is only offered.
    totp_secret text,
    totp_since timestamptz,
    totp_last_step bigint NOT NULL DEFAULT 0,  -- 30 s steps since 1970: a code works once
    CONSTRAINT a_second_factor_in_force_has_its_secret
        CHECK (totp_since IS NULL OR totp_secret IS NOT NULL)
);

-- Each try is a failure until it is known to be none: a hundred guesses at once are a hundred.
CREATE TABLE sign_in_try (
    try_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,  -- as typed, lower case; it need not be anybody's
    address text NOT NULL,
    at timestamptz NOT NULL,
    succeeded boolean NOT NULL DEFAULT false
);
CREATE INDEX tries_of_a_name ON sign_in_try (name, at);
CREATE INDEX tries_from_an_address ON sign_in_try (address, at);

-- A signed-in browser. The cookie is 256 random bits; only its SHA-256 is here.
CREATE TABLE desk_session (
    sha256 bytea PRIMARY KEY CONSTRAINT a_session_digest_has_32_bytes
        CHECK (octet_length(sha256) = 32),
    operator_id integer NOT NULL REFERENCES operator,
    csrf text NOT NULL,  -- what every form of this session carries
    address text NOT NULL,
    began_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    CONSTRAINT a_session_lives_before_it_expires CHECK (expires_at > began_at)
);
CREATE INDEX sessions_of_an_operator ON desk_session (operator_id) WHERE ended_at IS NULL;

-- What people did at the desk that no other table tells: signing in, operators, tokens, passwords.
CREATE TABLE desk_event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    operator_id integer REFERENCES operator,  -- null: on the machine itself
    action text NOT NULL CONSTRAINT a_desk_event_is_of_a_known_kind CHECK (action IN (
        'signed-in', 'signed-out', 'locked', 'password-set', 'second-factor-on',
        'second-factor-off', 'operator-added', 'operator-disabled', 'token-added',
        'token-revoked', 'customer-changed', 'shift-opened', 'shift-closed')),
    subject text NOT NULL DEFAULT ''
);
CREATE INDEX desk_events_by_time ON desk_event (at);
CREATE TRIGGER desk_event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON desk_event
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- A cashier's drawer from the float to the count. What was taken in between is what the till's
-- account moved between the two looks at it, so no payment can fall between two shifts unseen.
CREATE TABLE cashier_shift (
    shift_id uuid PRIMARY KEY,
    operator_id integer NOT NULL REFERENCES operator,
    opened_at timestamptz NOT NULL,
    float_fen bigint NOT NULL CONSTRAINT a_float_is_not_negative CHECK (float_fen >= 0),
    till_opened_fen bigint NOT NULL,  -- the till's account: below zero by what it has taken
    closed_at timestamptz,
    till_closed_fen bigint,
    counted_fen bigint CONSTRAINT a_count_is_not_negative CHECK (counted_fen >= 0),
    note text NOT NULL DEFAULT '',
    CONSTRAINT a_closed_shift_was_counted CHECK (
        num_nonnulls(closed_at, till_closed_fen, counted_fen) IN (0, 3))
);
CREATE UNIQUE INDEX a_cashier_has_one_open_shift ON cashier_shift (operator_id)
    WHERE closed_at IS NULL;
CREATE INDEX shifts_by_time ON cashier_shift (opened_at DESC);

CREATE FUNCTION shift_closes_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.closed_at IS NOT NULL
        OR (NEW.shift_id, NEW.operator_id, NEW.opened_at, NEW.float_fen, NEW.till_opened_fen)
        IS DISTINCT FROM
        (OLD.shift_id, OLD.operator_id, OLD.opened_at, OLD.float_fen, OLD.till_opened_fen) THEN
        RAISE EXCEPTION 'shift %: it is closed once and never changed', OLD.shift_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_shift_is_closed_once';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER shift_closes_once BEFORE UPDATE ON cashier_shift
    FOR EACH ROW EXECUTE FUNCTION shift_closes_once();
CREATE TRIGGER shifts_are_kept BEFORE DELETE OR TRUNCATE ON cashier_shift
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- The audit page and daily sales look at a stretch of time.
CREATE INDEX commands_by_time ON command (ordered_at DESC);

-- The board shows one house, a page one meter.
CREATE INDEX rooms_of_a_building ON room (building_id);
CREATE INDEX meters_of_a_room ON meter (room_id) WHERE retired_at IS NULL;
CREATE INDEX accounts_of_a_meter ON account (meter_id);
