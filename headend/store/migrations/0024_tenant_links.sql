-- What a tenant opens on a telephone without signing in: a link that shows one account and nothing
-- else, and changes nothing. Its secret is 256 random bits; only its SHA-256 is here.
CREATE TABLE tenant_link (
    link_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id integer NOT NULL REFERENCES account,  -- of a customer: it ends with the account
    sha256 bytea NOT NULL CONSTRAINT a_link_is_one_of_a_kind UNIQUE
        CONSTRAINT a_link_digest_has_32_bytes CHECK (octet_length(sha256) = 32),
    sheet_id uuid,  -- of a printed sheet for a building
    created_at timestamptz NOT NULL,
    created_by integer NOT NULL REFERENCES operator,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revoked_by integer REFERENCES operator,
    opened_at timestamptz,  -- last, to the hour
    CONSTRAINT a_link_lives_before_it_expires CHECK (expires_at > created_at),
    CONSTRAINT a_link_is_revoked_by_somebody CHECK ((revoked_at IS NULL) = (revoked_by IS NULL))
);
CREATE INDEX links_of_an_account ON tenant_link (account_id, link_id DESC);
CREATE INDEX links_of_a_sheet ON tenant_link (sheet_id) WHERE sheet_id IS NOT NULL;
CREATE TRIGGER links_are_kept BEFORE DELETE OR TRUNCATE ON tenant_link
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
