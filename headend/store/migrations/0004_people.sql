-- Who may do what: operators and their API tokens. What a role may do is headend/domain/roles.py.
--
-- Orders and books name an operator, so none is ever deleted: who left is disabled.

CREATE TABLE operator (
    operator_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT two_operators_cannot_share_a_name UNIQUE
        CONSTRAINT an_operator_has_a_name CHECK (name <> ''),
    -- Who it is in flesh: two accounts of one person do not make a second person.
    person text NOT NULL CONSTRAINT an_operator_is_a_person CHECK (person <> ''),
    role text NOT NULL CONSTRAINT an_operator_has_a_known_role CHECK (role IN (
        'admin', 'manager', 'cashier', 'technician', 'auditor', 'integrator')),
    all_sites boolean NOT NULL,  -- false: those of operator_site only
    created_at timestamptz NOT NULL,
    created_by integer REFERENCES operator,  -- null: made on the machine itself
    disabled_at timestamptz
);

CREATE TABLE operator_site (
    operator_id integer NOT NULL REFERENCES operator,
    site_id integer NOT NULL REFERENCES site,
    CONSTRAINT a_scope_names_a_site_once PRIMARY KEY (operator_id, site_id)
);

-- The token itself is shown once and never stored. It is 256 random bits, which nobody guesses from
-- its plain SHA-256; slow hashes are for what people can remember.
CREATE TABLE api_token (
    token_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operator_id integer NOT NULL REFERENCES operator,
    name text NOT NULL,
    prefix text NOT NULL,  -- its first characters, so that people can tell their tokens apart
    sha256 bytea NOT NULL CONSTRAINT a_token_is_one_of_a_kind UNIQUE
        CONSTRAINT a_digest_has_32_bytes CHECK (octet_length(sha256) = 32),
    permissions text[] NOT NULL,  -- at most what the operator's role may do
    created_at timestamptz NOT NULL,
    created_by integer REFERENCES operator,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT a_token_lives_before_it_expires CHECK (expires_at > created_at)
);
CREATE INDEX tokens_of_an_operator ON api_token (operator_id);
