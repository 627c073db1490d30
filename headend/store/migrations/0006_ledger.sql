-- The books: accounts and immutable transfers between two of them, sealed day by day, and what the
-- meters say against them.
--
-- Every transfer takes one amount from one account and gives it to another in the same row, so all
-- balances sum to zero whatever happens; there is no second place that could disagree. Balances are
-- derived. Nothing here is changed after it was written, except what has an end: an account, a
-- difference, an alarm.

CREATE TABLE account (
    account_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CONSTRAINT an_account_is_of_a_known_kind
        CHECK (kind IN ('till', 'channel', 'customer', 'meter', 'card', 'fee')),
    name text NOT NULL CONSTRAINT an_account_has_a_name CHECK (name <> ''),
    contact text NOT NULL DEFAULT '',  -- of a customer: how to reach them
    site_id integer REFERENCES site,
    meter_id integer REFERENCES meter,  -- of METER and CUSTOMER: whose credit it is about
    operator_id integer REFERENCES operator,  -- of TILL and CHANNEL: who takes the money
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    CONSTRAINT an_account_belongs_to_its_meter_or_operator CHECK (
        CASE kind
            WHEN 'meter' THEN meter_id IS NOT NULL AND operator_id IS NULL
            WHEN 'customer' THEN meter_id IS NOT NULL AND operator_id IS NULL
            WHEN 'till' THEN operator_id IS NOT NULL AND meter_id IS NULL
            WHEN 'channel' THEN operator_id IS NOT NULL AND meter_id IS NULL
            ELSE operator_id IS NULL
        END
    )
);
CREATE UNIQUE INDEX a_meter_has_one_account ON account (meter_id) WHERE kind = 'meter';
CREATE UNIQUE INDEX a_meter_has_one_open_customer ON account (meter_id)
    WHERE kind = 'customer' AND closed_at IS NULL;
CREATE UNIQUE INDEX an_operator_has_one_till ON account (operator_id)
    WHERE kind IN ('till', 'channel');

-- Between which kinds of account an operation may move money. domain/books.py says the same.
CREATE TABLE operation_flow (
    operation text NOT NULL,
    debit_kind text NOT NULL,
    credit_kind text NOT NULL,
    PRIMARY KEY (operation, debit_kind, credit_kind)
);
INSERT INTO operation_flow VALUES
    ('payment', 'till', 'customer'), ('payment', 'channel', 'customer'),
    ('top_up', 'customer', 'meter'),
    ('refund', 'customer', 'till'), ('refund', 'customer', 'channel'),
    ('move', 'meter', 'customer'),
    ('correction', 'till', 'customer'), ('correction', 'channel', 'customer'),
    ('correction', 'customer', 'till'), ('correction', 'customer', 'channel'),
    ('correction', 'till', 'meter'), ('correction', 'channel', 'meter'),
    ('correction', 'meter', 'till'), ('correction', 'meter', 'channel'),
    ('fee', 'customer', 'fee');

CREATE TABLE transfer (
    entry_no bigint GENERATED ALWAYS AS IDENTITY
        CONSTRAINT an_entry_number_is_used_once UNIQUE,
    transfer_id uuid PRIMARY KEY,
    phase text NOT NULL,
    operation text NOT NULL,
    debit integer NOT NULL REFERENCES account,  -- the money leaves here
    credit integer NOT NULL REFERENCES account,  -- and arrives here
    amount_fen bigint NOT NULL,
    pending_id uuid,
    pending_phase text GENERATED ALWAYS AS (
        CASE WHEN pending_id IS NOT NULL THEN 'pending' END) STORED,
    command_id uuid REFERENCES command,
    sale_id uuid REFERENCES sale,
    operator_id integer NOT NULL REFERENCES operator,
    approver_id integer REFERENCES operator,
    reason text NOT NULL,
    at timestamptz NOT NULL,
    CONSTRAINT money_moves_between_two_accounts CHECK (debit <> credit),
    -- 50,000 yuan: AMOUNT_FEN_MAX of domain/ledger.py.
    CONSTRAINT an_amount_is_1_to_5000000_fen CHECK (amount_fen BETWEEN 1 AND 5000000),
    CONSTRAINT a_transfer_is_in_a_known_phase CHECK (
        phase IN ('direct', 'pending', 'post', 'void')),
    CONSTRAINT a_phase_and_its_operation_go_together CHECK (
        CASE phase
            WHEN 'direct' THEN operation IN ('payment', 'refund', 'move', 'correction', 'fee')
            WHEN 'void' THEN operation IN ('top_up', 'reversal')
            ELSE operation = 'top_up'
        END
    ),
    CONSTRAINT only_a_resolution_names_what_it_resolves CHECK (
        (phase IN ('post', 'void')) = (pending_id IS NOT NULL)),
    CONSTRAINT a_pending_transfer_is_resolved_once UNIQUE (pending_id),
    CONSTRAINT a_resolution_is_asked_of_this_key UNIQUE
        (transfer_id, phase, debit, credit, amount_fen),
    CONSTRAINT a_resolution_moves_what_was_reserved
        FOREIGN KEY (pending_id, pending_phase, debit, credit, amount_fen)
        REFERENCES transfer (transfer_id, phase, debit, credit, amount_fen),
    CONSTRAINT what_is_not_everyday_has_a_reason CHECK (
        operation IN ('payment', 'top_up', 'fee') OR reason <> ''),
    -- SECOND_PERSON_ABOVE_FEN of domain/ledger.py.
    CONSTRAINT above_50000_fen_a_second_person_approves CHECK (
        operation IN ('payment', 'top_up', 'fee') OR amount_fen <= 50000
        OR approver_id IS NOT NULL)
);
-- Both sides of an account with their amounts, so that a balance is read from the index alone.
CREATE INDEX debits_of_an_account ON transfer (debit) INCLUDE (phase, amount_fen);
CREATE INDEX credits_of_an_account ON transfer (credit) INCLUDE (phase, amount_fen);
CREATE INDEX transfers_of_a_command ON transfer (command_id) WHERE command_id IS NOT NULL;
CREATE INDEX transfers_of_a_sale ON transfer (sale_id) WHERE sale_id IS NOT NULL;
CREATE INDEX transfers_by_time ON transfer USING brin (at);

-- What may still be spent: posted credits, less posted debits, less what is reserved.
CREATE FUNCTION available_fen(account integer) RETURNS bigint STABLE LANGUAGE sql
RETURN (
    SELECT coalesce(sum(amount_fen) FILTER (WHERE phase IN ('direct', 'post')), 0)
    FROM transfer WHERE credit = available_fen.account
) + (
    SELECT coalesce(sum(CASE phase WHEN 'void' THEN amount_fen ELSE -amount_fen END), 0)
    FROM transfer WHERE debit = available_fen.account AND phase <> 'post'
);

CREATE VIEW account_balance AS
SELECT
    account_id,
    (coalesce(moved_in.fen, 0) - coalesce(moved_out.fen, 0))::bigint AS posted_fen,
    coalesce(moved_out.reserved_fen, 0)::bigint AS reserved_fen
FROM account
LEFT JOIN LATERAL (
    SELECT sum(amount_fen) AS fen
    FROM transfer WHERE credit = account_id AND phase IN ('direct', 'post')
) AS moved_in ON true
LEFT JOIN LATERAL (
    SELECT
        sum(amount_fen) FILTER (WHERE phase IN ('direct', 'post')) AS fen,
        sum(CASE phase WHEN 'pending' THEN amount_fen ELSE -amount_fen END)
            FILTER (WHERE phase <> 'direct') AS reserved_fen
    FROM transfer WHERE debit = account_id
) AS moved_out ON true;

CREATE FUNCTION check_transfer() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    giver account;
    taker account;
BEGIN
    -- Who spends from one account comes one after the other; tills are not waited for.
    SELECT * INTO giver FROM account WHERE account_id = NEW.debit
        AND kind NOT IN ('till', 'channel') FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        SELECT * INTO giver FROM account WHERE account_id = NEW.debit;
    END IF;
    SELECT * INTO taker FROM account WHERE account_id = NEW.credit;
    IF NOT EXISTS (
        SELECT FROM operation_flow AS flow WHERE flow.operation = NEW.operation
            AND flow.debit_kind = giver.kind AND flow.credit_kind = taker.kind
    ) THEN
        RAISE 'transfer %: a % never moves money from a % to a %',
            NEW.transfer_id, NEW.operation, giver.kind, taker.kind
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_operation_keeps_to_its_accounts';
    END IF;
    IF giver.closed_at IS NOT NULL OR taker.closed_at IS NOT NULL THEN
        RAISE 'transfer %: the account is closed', NEW.transfer_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_closed_account_moves_no_money';
    END IF;
    -- Tills and channels stand for the world outside: what they gave is what came in.
    IF giver.kind NOT IN ('till', 'channel') AND available_fen(NEW.debit) < NEW.amount_fen THEN
        RAISE 'transfer %: account % has less than % fen to spend',
            NEW.transfer_id, NEW.debit, NEW.amount_fen
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_account_is_never_overdrawn';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_transfer BEFORE INSERT ON transfer FOR EACH ROW
    WHEN (NEW.phase IN ('direct', 'pending')) EXECUTE FUNCTION check_transfer();

CREATE FUNCTION check_approver() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(DISTINCT person) FROM operator
        WHERE operator_id IN (NEW.operator_id, NEW.approver_id)) < 2 THEN
        RAISE 'transfer %: two accounts of one person are one person', NEW.transfer_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_approver_is_somebody_else';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_approver BEFORE INSERT ON transfer FOR EACH ROW
    WHEN (NEW.approver_id IS NOT NULL) EXECUTE FUNCTION check_approver();

-- An account ends empty and stays ended; what it stands for never changes.
CREATE FUNCTION check_account() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF ROW(OLD.account_id, OLD.kind, OLD.site_id, OLD.meter_id, OLD.operator_id, OLD.opened_at)
        IS DISTINCT FROM
        ROW(NEW.account_id, NEW.kind, NEW.site_id, NEW.meter_id, NEW.operator_id, NEW.opened_at)
        OR (OLD.closed_at IS NOT NULL AND NEW.closed_at IS DISTINCT FROM OLD.closed_at) THEN
        RAISE 'account %: only its name and contact change, and it is closed once', OLD.account_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_account_keeps_its_identity';
    END IF;
    IF NEW.closed_at IS NOT NULL AND OLD.closed_at IS NULL AND EXISTS (
        SELECT FROM account_balance WHERE account_id = NEW.account_id
            AND (reserved_fen <> 0 OR (NEW.kind IN ('customer', 'card') AND posted_fen <> 0))
    ) THEN
        RAISE 'account %: there is still money in it', OLD.account_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_account_is_closed_empty';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER check_account BEFORE UPDATE ON account FOR EACH ROW EXECUTE FUNCTION check_account();

-- Where a meter's own registers stood when the books began for it, and whenever two persons agreed
-- to begin anew. The newest one counts.
CREATE TABLE meter_opening (
    opening_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id integer NOT NULL REFERENCES meter,
    opened_at timestamptz NOT NULL,  -- the instant of the look
    purchase_count bigint,  -- null: this type does not show it
    total_purchased_fen bigint,
    booked_count bigint NOT NULL,  -- what the books had credited to it by then
    booked_fen bigint NOT NULL,
    operator_id integer REFERENCES operator,  -- null: the first one, taken by the program
    approver_id integer REFERENCES operator,
    reason text NOT NULL,
    CONSTRAINT an_opening_is_approved_by_somebody_else CHECK (approver_id <> operator_id)
);
CREATE INDEX openings_of_a_meter ON meter_opening (meter_id, opening_id DESC);

-- The daily comparison of meter and books. A meter has one open difference at most; its kind may
-- change while it is open.
CREATE TABLE meter_difference (
    difference_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id integer NOT NULL REFERENCES meter,
    kind text NOT NULL CONSTRAINT a_difference_is_of_a_known_kind CHECK (kind IN (
        'in_flight', 'foreign_purchase', 'rollback', 'reset', 'wrong_meter', 'escalated')),
    -- The meter against the books, above 0: the meter is ahead. Null: the type does not show it.
    ahead_count bigint,
    ahead_fen bigint,
    detail text NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    owner_id integer REFERENCES operator,
    closed_at timestamptz,
    closed_by integer REFERENCES operator,  -- null: the meter agreed again
    closed_reason text,
    CONSTRAINT a_closed_difference_says_why CHECK (
        (closed_at IS NULL) = (closed_reason IS NULL) AND closed_reason <> '')
);
CREATE UNIQUE INDEX a_meter_has_one_open_difference ON meter_difference (meter_id)
    WHERE closed_at IS NULL;

CREATE TABLE alarm (
    alarm_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL,
    meter_id integer REFERENCES meter,
    detail text NOT NULL,
    raised_at timestamptz NOT NULL,
    cleared_at timestamptz
);
-- What lasts is one alarm, however often it is seen.
CREATE UNIQUE INDEX an_alarm_is_raised_once ON alarm (code, (coalesce(meter_id, 0)))
    WHERE cleared_at IS NULL;

-- The chain over transfers and command events in the order in which they were sealed; the algorithm
-- is in docs/ledger-seal.md. A row of day_seal closes a day over everything chained until then.
CREATE TABLE seal_entry (
    position bigint PRIMARY KEY,
    source text NOT NULL CONSTRAINT a_seal_covers_a_known_table
        CHECK (source IN ('transfer', 'command_event')),
    entry_no bigint NOT NULL,
    chain_sha256 bytea NOT NULL CHECK (octet_length(chain_sha256) = 32),
    CONSTRAINT a_row_is_sealed_once UNIQUE (source, entry_no)
);
CREATE TABLE day_seal (
    day date PRIMARY KEY,
    last_position bigint NOT NULL,  -- 0: nothing was booked yet
    transfers bigint NOT NULL,  -- sealed since the seal before
    events bigint NOT NULL,
    chain_sha256 bytea NOT NULL CHECK (octet_length(chain_sha256) = 32),
    previous_sha256 bytea NOT NULL CHECK (octet_length(previous_sha256) = 32),
    seal_sha256 bytea NOT NULL CHECK (octet_length(seal_sha256) = 32),
    sealed_at timestamptz NOT NULL
);

CREATE TRIGGER transfer_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON transfer
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER meter_opening_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON meter_opening
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER seal_entry_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON seal_entry
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER day_seal_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON day_seal
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
-- Flows come with migrations only.
CREATE TRIGGER operation_flow_is_as_it_is BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
    ON operation_flow FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER accounts_are_kept BEFORE DELETE OR TRUNCATE ON account
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER differences_are_kept BEFORE DELETE OR TRUNCATE ON meter_difference
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- A role for sessions that write books: it may add and read, and has no right to change or delete.
-- It is shared by the databases of a server. Where this server does not let us make roles, the
-- triggers above stand alone.
DO $$
BEGIN
    BEGIN
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'headend_books') THEN
            CREATE ROLE headend_books NOLOGIN;
        END IF;
        GRANT headend_books TO CURRENT_USER;
    EXCEPTION
        WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL;
    END;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'headend_books') THEN
        RETURN;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO headend_books', current_schema());
    EXECUTE format('GRANT ALL ON ALL TABLES IN SCHEMA %I TO headend_books', current_schema());
    EXECUTE format('GRANT ALL ON ALL SEQUENCES IN SCHEMA %I TO headend_books', current_schema());
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT ALL ON TABLES TO headend_books',
        current_schema());
    REVOKE UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER
        ON transfer, operation_flow, meter_opening, seal_entry, day_seal, command_event
        FROM headend_books;
    REVOKE DELETE, TRUNCATE, REFERENCES, TRIGGER
        ON account, sale, command, attempt, meter_difference, alarm FROM headend_books;
END
$$;
