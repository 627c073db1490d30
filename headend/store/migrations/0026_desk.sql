-- Files of customers and accounts that somebody sent to the desk: kept between the look at what they
-- would do and the word to do it. Names and telephones are dropped once that is done; what was done
-- stays.
CREATE TABLE account_file (
    file_id uuid PRIMARY KEY,
    operator_id integer NOT NULL REFERENCES operator,
    name text NOT NULL,
    sha256 bytea NOT NULL CONSTRAINT an_account_file_digest_has_32_bytes
        CHECK (octet_length(sha256) = 32),
    sent_at timestamptz NOT NULL,
    content bytea,
    imported_at timestamptz,
    opened integer,
    changed integer,
    same integer,
    CONSTRAINT an_imported_file_says_what_it_did CHECK (
        num_nonnulls(imported_at, opened, changed, same) IN (0, 4)),
    CONSTRAINT an_imported_file_keeps_no_content CHECK ((content IS NULL) = (imported_at IS NOT NULL))
);
CREATE INDEX account_files_by_time ON account_file (sent_at);
-- When a webhook last took an event: "no failures" and "nothing ever went there" look the same
-- otherwise.
ALTER TABLE webhook ADD COLUMN delivered_at timestamptz;
-- From which share on the difference between a master meter and its circuits is an alarm.
ALTER TABLE alarm_rule ADD COLUMN loss_permille integer NOT NULL DEFAULT 100;
