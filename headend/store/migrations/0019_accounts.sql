-- Customers and their accounts: who pays for which meters, what they owe, what a property's rules
-- take from a sale, and the work that begins and ends with an account or a meter.
--
-- A customer has a number and one account of the books (kind customer) for each of their meters. The
-- accounts of a meter, one after the other, are its history of tenants.

CREATE SEQUENCE customer_number START 100001;

CREATE TABLE customer (
    customer_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer_no text NOT NULL CONSTRAINT two_customers_cannot_share_a_number UNIQUE
        CONSTRAINT a_customer_number_is_letters_digits_and_dashes
            CHECK (customer_no ~ '^[0-9A-Za-z-]{1,24}$'),
    site_id integer NOT NULL REFERENCES site,
    name text NOT NULL CONSTRAINT a_customer_has_a_name CHECK (name <> ''),
    phone text NOT NULL DEFAULT '',
    address text NOT NULL DEFAULT '',
    opened_at timestamptz NOT NULL,
    closed_at timestamptz
);
CREATE INDEX customers_of_a_site ON customer (site_id, customer_no);

ALTER TABLE account ADD COLUMN customer_id integer REFERENCES customer
    CONSTRAINT only_a_customers_account_has_a_customer
        CHECK (customer_id IS NULL OR kind = 'customer');
CREATE INDEX accounts_of_a_customer ON account (customer_id) WHERE customer_id IS NOT NULL;

-- Whose an account is, is said once: another tenant gets another account.
CREATE FUNCTION account_keeps_its_customer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE 'account %: it stays with its customer', OLD.account_id
        USING ERRCODE = 'check_violation', CONSTRAINT = 'an_account_stays_with_its_customer';
END
$$;
CREATE TRIGGER account_keeps_its_customer BEFORE UPDATE ON account FOR EACH ROW
    WHEN (OLD.customer_id IS NOT NULL AND NEW.customer_id IS DISTINCT FROM OLD.customer_id)
    EXECUTE FUNCTION account_keeps_its_customer();

-- A customer ends when none of their accounts is open any more; numbers are never given again.
CREATE FUNCTION customer_closes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.customer_no, OLD.site_id, OLD.opened_at)
        IS DISTINCT FROM (NEW.customer_no, NEW.site_id, NEW.opened_at) THEN
        RAISE 'customer %: the number stays', OLD.customer_no
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_customer_keeps_its_number';
    END IF;
    IF NEW.closed_at IS NOT NULL AND OLD.closed_at IS NULL AND EXISTS (
        SELECT FROM account WHERE customer_id = OLD.customer_id AND closed_at IS NULL
    ) THEN
        RAISE 'customer %: an account is still open', OLD.customer_no
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_customer_ends_without_accounts';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER customer_closes BEFORE UPDATE ON customer
    FOR EACH ROW EXECUTE FUNCTION customer_closes();
CREATE TRIGGER customers_are_kept BEFORE DELETE OR TRUNCATE ON customer
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- What a property's rules take from a sale and put into a meter that is opened. The newest row of a
-- site counts; nothing is changed afterwards, so that every sale can be explained.
CREATE TABLE account_rules (
    rules_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES site,
    since timestamptz NOT NULL,
    set_by integer REFERENCES operator,
    opening_fee_fen bigint NOT NULL DEFAULT 0
        CONSTRAINT an_opening_fee_is_0_to_1000_yuan CHECK (opening_fee_fen BETWEEN 0 AND 100000),
    sale_fee_fen bigint NOT NULL DEFAULT 0
        CONSTRAINT a_sale_fee_is_0_to_1000_yuan CHECK (sale_fee_fen BETWEEN 0 AND 100000),
    -- Credit in a meter that no sale goes beyond; null: none.
    hoarding_limit_fen bigint CONSTRAINT a_hoarding_limit_is_positive CHECK (hoarding_limit_fen > 0),
    -- The setting open_account (protocols/settings.py) written into a meter that is opened; null:
    -- meters are opened as they are.
    opening jsonb
);
CREATE INDEX rules_of_a_site ON account_rules (site_id, rules_id DESC);
CREATE TRIGGER account_rules_are_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON account_rules
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- Two more kinds of account. The property stands for itself and may be below zero: it bears credit
-- that was in a meter before the books began, and what a tenant used between the last look and the
-- clearing. A debt holds what was paid back of it.
ALTER TABLE account DROP CONSTRAINT an_account_is_of_a_known_kind;
ALTER TABLE account ADD CONSTRAINT an_account_is_of_a_known_kind CHECK (kind IN (
    'till', 'channel', 'customer', 'meter', 'card', 'fee', 'energy', 'property', 'debt'));
CREATE UNIQUE INDEX a_site_has_one_property_account ON account (site_id) WHERE kind = 'property';
CREATE UNIQUE INDEX a_site_has_one_fee_account ON account (site_id)
    WHERE kind = 'fee' AND site_id IS NOT NULL;

ALTER TABLE operation_flow DISABLE TRIGGER operation_flow_is_as_it_is;
INSERT INTO operation_flow VALUES
    ('settlement', 'meter', 'customer'), ('settlement', 'customer', 'meter'),
    ('borne', 'property', 'meter'), ('borne', 'property', 'customer'),
    ('repayment', 'customer', 'debt');
ALTER TABLE operation_flow ENABLE TRIGGER operation_flow_is_as_it_is;

ALTER TABLE transfer DROP CONSTRAINT a_phase_and_its_operation_go_together;
ALTER TABLE transfer ADD CONSTRAINT a_phase_and_its_operation_go_together CHECK (
    CASE phase
        WHEN 'direct' THEN operation IN ('payment', 'refund', 'move', 'correction', 'fee',
            'charge', 'charge_back', 'settlement', 'borne', 'repayment')
        WHEN 'void' THEN operation IN ('top_up', 'reversal')
        ELSE operation = 'top_up'
    END
);
ALTER TABLE transfer DROP CONSTRAINT what_is_not_everyday_has_a_reason;
ALTER TABLE transfer ADD CONSTRAINT what_is_not_everyday_has_a_reason CHECK (
    operation IN ('payment', 'top_up', 'fee', 'repayment') OR reason <> '');
ALTER TABLE transfer DROP CONSTRAINT above_50000_fen_a_second_person_approves;
ALTER TABLE transfer ADD CONSTRAINT above_50000_fen_a_second_person_approves CHECK (
    operation IN ('payment', 'top_up', 'fee', 'charge', 'charge_back', 'repayment')
    OR amount_fen <= 50000 OR approver_id IS NOT NULL);

CREATE TABLE debt (
    debt_id uuid PRIMARY KEY,  -- made by who wants it
    customer_id integer NOT NULL REFERENCES customer,
    account_id integer NOT NULL CONSTRAINT a_debt_has_its_account UNIQUE REFERENCES account,
    amount_fen bigint NOT NULL
        CONSTRAINT a_debt_is_1_to_5000000_fen CHECK (amount_fen BETWEEN 1 AND 5000000),
    -- Taken from each payment at the counter, thousandths; 0: paid by hand only.
    share_permille integer NOT NULL
        CONSTRAINT a_debt_share_is_0_to_900_permille CHECK (share_permille BETWEEN 0 AND 900),
    reason text NOT NULL CONSTRAINT a_debt_has_a_reason CHECK (reason <> ''),
    booked_by integer NOT NULL REFERENCES operator,
    approver_id integer REFERENCES operator
        CONSTRAINT a_debt_is_approved_by_somebody_else CHECK (approver_id <> booked_by),
    booked_at timestamptz NOT NULL,
    -- Let off what is left: it is owed no more.
    let_off_at timestamptz,
    let_off_by integer REFERENCES operator,
    let_off_reason text,
    CONSTRAINT a_debt_let_off_says_by_whom_and_why CHECK (
        num_nonnulls(let_off_at, let_off_by, let_off_reason) IN (0, 3) AND let_off_reason <> ''),
    CONSTRAINT a_debt_above_50000_fen_has_a_second_person CHECK (
        amount_fen <= 50000 OR approver_id IS NOT NULL)
);
CREATE INDEX debts_of_a_customer ON debt (customer_id);
CREATE FUNCTION debt_changes() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.let_off_at IS NOT NULL OR (OLD.debt_id, OLD.customer_id, OLD.account_id, OLD.amount_fen,
            OLD.reason, OLD.booked_by, OLD.approver_id, OLD.booked_at)
        IS DISTINCT FROM (NEW.debt_id, NEW.customer_id, NEW.account_id, NEW.amount_fen,
            NEW.reason, NEW.booked_by, NEW.approver_id, NEW.booked_at) THEN
        RAISE 'debt %: only its share changes, and it is let off once', OLD.debt_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_debt_stays_as_it_was_booked';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER debt_changes BEFORE UPDATE ON debt FOR EACH ROW EXECUTE FUNCTION debt_changes();
CREATE TRIGGER debts_are_kept BEFORE DELETE OR TRUNCATE ON debt
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- What a debt has left: what was booked less what was paid back; nothing once it was let off.
CREATE VIEW debt_left AS
SELECT debt_id, customer_id,
    CASE WHEN let_off_at IS NULL THEN (amount_fen - posted_fen)::bigint ELSE 0 END AS left_fen
FROM debt JOIN account_balance USING (account_id);

CREATE OR REPLACE FUNCTION check_transfer() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    giver account;
    taker account;
    owed bigint;
BEGIN
    -- Who spends from one account comes one after the other; tills are not waited for.
    SELECT * INTO giver FROM account WHERE account_id = NEW.debit
        AND kind NOT IN ('till', 'channel', 'energy', 'property') FOR NO KEY UPDATE;
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
    -- Tills and channels stand for the world outside: what they gave is what came in. The property
    -- stands for itself. Energy that was used is owed, whatever the customer has: arrears.
    IF giver.kind NOT IN ('till', 'channel', 'energy', 'property') AND taker.kind <> 'energy'
        AND available_fen(NEW.debit) < NEW.amount_fen THEN
        RAISE 'transfer %: account % has less than % fen to spend',
            NEW.transfer_id, NEW.debit, NEW.amount_fen
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_account_is_never_overdrawn';
    END IF;
    IF taker.kind = 'debt' THEN
        PERFORM FROM debt WHERE account_id = NEW.credit FOR NO KEY UPDATE;
        SELECT left_fen INTO owed FROM debt JOIN debt_left USING (debt_id)
            WHERE debt.account_id = NEW.credit;
        IF coalesce(owed, 0) < NEW.amount_fen THEN
            RAISE 'transfer %: of this debt % fen are left', NEW.transfer_id, coalesce(owed, 0)
                USING ERRCODE = 'check_violation', CONSTRAINT = 'a_debt_is_never_overpaid';
        END IF;
    END IF;
    RETURN NEW;
END
$$;

-- A piece of work around an account: opening, transfer, closure, meter exchange. Its id is made by
-- the page that wants it, so that whatever a browser does is one piece of work; what it needs is
-- kept here, so that a restart goes on where it was.
CREATE TABLE account_case (
    case_id uuid PRIMARY KEY,
    kind text NOT NULL CONSTRAINT a_case_is_of_a_known_kind
        CHECK (kind IN ('opening', 'transfer', 'closure', 'exchange')),
    step text NOT NULL CONSTRAINT a_case_is_at_a_known_step CHECK (step IN (
        'confirm', 'new_meter', 'look', 'ordered', 'sold', 'done', 'cancelled')),
    meter_id integer NOT NULL REFERENCES meter,
    customer_id integer REFERENCES customer,  -- whose account: of a transfer, the tenant out
    to_customer_id integer REFERENCES customer,  -- of a transfer: the tenant in
    -- While it does, nothing is sold to the meter by any channel.
    holds_sales boolean NOT NULL,
    wish jsonb NOT NULL,  -- as it was typed and approved
    facts jsonb NOT NULL,  -- looks at the meter, amounts, orders
    note text NOT NULL DEFAULT '',  -- why it does not go on
    operator_id integer NOT NULL REFERENCES operator,
    approver_id integer REFERENCES operator
        CONSTRAINT a_case_is_approved_by_somebody_else CHECK (approver_id <> operator_id),
    reason text NOT NULL,
    began_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX a_meter_has_one_open_case ON account_case (meter_id)
    WHERE step NOT IN ('done', 'cancelled');
CREATE INDEX cases_that_go_on_by_themselves ON account_case (began_at)
    WHERE step IN ('look', 'ordered', 'sold');
CREATE INDEX cases_of_a_customer ON account_case (customer_id);
CREATE INDEX cases_to_a_customer ON account_case (to_customer_id) WHERE to_customer_id IS NOT NULL;
CREATE INDEX cases_by_time ON account_case (began_at DESC);

CREATE TABLE account_case_event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    case_id uuid NOT NULL REFERENCES account_case,
    at timestamptz NOT NULL,
    step text NOT NULL,
    note text NOT NULL,
    facts jsonb NOT NULL
);
CREATE INDEX events_of_a_case ON account_case_event (case_id, event_id);
CREATE TRIGGER account_case_event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE
    ON account_case_event FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

CREATE FUNCTION account_case_tells() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.step IN ('done', 'cancelled') THEN
            RAISE 'case %: it has ended', OLD.case_id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'a_case_that_ended_stays_so';
        END IF;
        IF (OLD.kind, OLD.meter_id, OLD.operator_id, OLD.began_at)
            IS DISTINCT FROM (NEW.kind, NEW.meter_id, NEW.operator_id, NEW.began_at) THEN
            RAISE 'case %: what it is about stays', OLD.case_id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'a_case_keeps_its_identity';
        END IF;
        IF (OLD.step, OLD.note, OLD.facts) IS NOT DISTINCT FROM (NEW.step, NEW.note, NEW.facts) THEN
            RETURN NEW;
        END IF;
    END IF;
    INSERT INTO account_case_event (case_id, at, step, note, facts)
    VALUES (NEW.case_id, NEW.changed_at, NEW.step, NEW.note, NEW.facts);
    PERFORM pg_notify('account_cases', NEW.case_id::text);
    RETURN NEW;
END
$$;
-- After the row, because its events point at it.
CREATE TRIGGER account_case_tells AFTER INSERT OR UPDATE ON account_case
    FOR EACH ROW EXECUTE FUNCTION account_case_tells();
CREATE TRIGGER account_cases_are_kept BEFORE DELETE OR TRUNCATE ON account_case
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- Photographs that prove a case. Bytes in the books' own database: what restores one restores all.
CREATE TABLE case_photo (
    photo_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    case_id uuid NOT NULL REFERENCES account_case,
    sha256 bytea NOT NULL CONSTRAINT a_photo_digest_has_32_bytes CHECK (octet_length(sha256) = 32),
    media_type text NOT NULL CONSTRAINT a_photo_is_of_a_known_type
        CHECK (media_type IN ('image/jpeg', 'image/png', 'image/webp')),
    bytes bytea NOT NULL
        CONSTRAINT a_photo_has_at_most_5_mib CHECK (octet_length(bytes) BETWEEN 1 AND 5242880),
    title text NOT NULL,
    added_at timestamptz NOT NULL,
    added_by integer NOT NULL REFERENCES operator,
    CONSTRAINT a_photo_is_kept_once_in_a_case UNIQUE (case_id, sha256)
);
CREATE TRIGGER case_photo_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON case_photo
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- Devices that hung under one name, one after the other. What the old one counted is no measure for
-- the new one.
CREATE TABLE meter_exchange (
    meter_id integer NOT NULL REFERENCES meter,
    at timestamptz NOT NULL,
    case_id uuid NOT NULL REFERENCES account_case,
    old_device jsonb NOT NULL,
    new_device jsonb NOT NULL,
    PRIMARY KEY (meter_id, at)
);
CREATE TRIGGER meter_exchange_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON meter_exchange
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- Operators may be kept to single buildings of their properties. Without a row for a site, all of it.
CREATE TABLE operator_building (
    operator_id integer NOT NULL REFERENCES operator,
    building_id integer NOT NULL REFERENCES building,
    CONSTRAINT a_scope_names_a_building_once PRIMARY KEY (operator_id, building_id)
);

ALTER TABLE desk_event DROP CONSTRAINT a_desk_event_is_of_a_known_kind;
ALTER TABLE desk_event ADD CONSTRAINT a_desk_event_is_of_a_known_kind CHECK (action IN (
    'signed-in', 'signed-out', 'locked', 'password-set', 'second-factor-on',
    'second-factor-off', 'operator-added', 'operator-disabled', 'token-added',
    'token-revoked', 'customer-changed', 'shift-opened', 'shift-closed',
    'debt-booked', 'debt-share-set', 'debt-let-off', 'rules-set', 'accounts-imported'));
