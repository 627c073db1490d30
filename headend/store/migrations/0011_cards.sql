-- Cards: which are ours, what was issued on them under which number, and what became of it.
--
-- A card is one more channel of the same sequence. What the strict policy needs stands here: a card
-- carries the count and the amount of its sale and nothing else, each issue is a copy of its sale,
-- a copy is dead only when it was seen unused on the reader and wiped, and a sale that ever had two
-- copies is burned, never reversed.

CREATE TABLE card (
    serial bytea PRIMARY KEY CHECK (octet_length(serial) = 8),
    unit text NOT NULL,  -- the security unit that made it ours
    made_at timestamptz NOT NULL,
    made_by integer NOT NULL REFERENCES operator,
    meter_id integer REFERENCES meter,  -- whom it was given; null: nobody yet, or a bearer card
    given_at timestamptz,
    -- Lost, worn out, taken back: it is never written again.
    ended_at timestamptz,
    end_reason text,
    CONSTRAINT a_card_is_given_at_an_instant CHECK ((meter_id IS NULL) = (given_at IS NULL)),
    CONSTRAINT a_card_that_ended_says_why CHECK ((ended_at IS NULL) = (end_reason IS NULL))
);
CREATE UNIQUE INDEX a_meter_has_one_card ON card (meter_id)
    WHERE meter_id IS NOT NULL AND ended_at IS NULL;

-- What the meter showed before the first copy of a sale that began on a card.
CREATE TABLE card_sale (
    sale_id uuid PRIMARY KEY REFERENCES sale,
    before jsonb NOT NULL
);

CREATE TABLE card_issue (
    issue_number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY
        CONSTRAINT an_issue_number_fits_on_a_card CHECK (issue_number BETWEEN 1 AND 4294967295),
    issue_id uuid NOT NULL UNIQUE,  -- made by who wants it
    serial bytea NOT NULL REFERENCES card,
    kind text NOT NULL CONSTRAINT a_card_is_of_a_known_kind CHECK (kind IN (
        'opening', 'purchase', 'replacement', 'make_up', 'refund', 'parameter', 'preset', 'clear',
        'check')),
    state text NOT NULL DEFAULT 'pending' CONSTRAINT an_issue_is_in_a_known_state CHECK (
        state IN ('pending', 'issued', 'clearing', 'wiped', 'used', 'lost', 'revoked')),
    meter_id integer REFERENCES meter,  -- null: every meter of the area
    sale_id uuid REFERENCES sale,
    purchase_count integer,
    amount_fen bigint NOT NULL,
    key_version integer NOT NULL,
    valid_until timestamptz,
    details jsonb NOT NULL DEFAULT '{}',
    issued_by integer NOT NULL REFERENCES operator,
    approved_by integer REFERENCES operator,
    reason text NOT NULL,
    begun_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    note text NOT NULL DEFAULT '',
    CONSTRAINT credit_on_a_card_belongs_to_a_sale CHECK (
        (kind IN ('opening', 'purchase', 'replacement', 'make_up', 'refund'))
        = (sale_id IS NOT NULL AND purchase_count IS NOT NULL AND meter_id IS NOT NULL)),
    CONSTRAINT a_bearer_card_has_an_end CHECK (
        (kind IN ('parameter', 'preset', 'clear', 'check')) = (valid_until IS NOT NULL)),
    CONSTRAINT a_bearer_card_takes_two_persons CHECK (
        kind NOT IN ('parameter', 'preset', 'clear') OR approved_by IS NOT NULL),
    CONSTRAINT what_is_not_everyday_on_a_card_has_a_reason CHECK (
        kind IN ('opening', 'purchase') OR reason <> '')
);
CREATE INDEX issues_of_a_sale ON card_issue (sale_id) WHERE sale_id IS NOT NULL;
CREATE INDEX issues_of_a_meter ON card_issue (meter_id, issue_number);
-- A card carries one thing at a time.
CREATE UNIQUE INDEX a_card_carries_one_issue ON card_issue (serial)
    WHERE state IN ('pending', 'issued', 'clearing');

CREATE FUNCTION card_issue_begins() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    sold sale;
BEGIN
    IF NEW.state <> 'pending' THEN
        RAISE 'card issue %: it begins pending', NEW.issue_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_issue_begins_pending';
    END IF;
    IF EXISTS (SELECT FROM card WHERE serial = NEW.serial AND (ended_at IS NOT NULL
            OR (NEW.sale_id IS NOT NULL AND meter_id IS DISTINCT FROM NEW.meter_id))) THEN
        RAISE 'card issue %: the card has ended or belongs to another meter', NEW.issue_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_card_is_its_meters_own';
    END IF;
    IF NEW.approved_by IS NOT NULL AND (SELECT count(DISTINCT person) FROM operator
            WHERE operator_id IN (NEW.issued_by, NEW.approved_by)) < 2 THEN
        RAISE 'card issue %: two accounts of one person are one person', NEW.issue_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_card_is_approved_by_somebody_else';
    END IF;
    IF NEW.sale_id IS NOT NULL THEN
        SELECT * INTO sold FROM sale WHERE sale_id = NEW.sale_id FOR UPDATE;
        -- A replacement may repeat a sale that landed: it brings no credit, and the meter takes the
        -- new card's serial.
        IF NOT (sold.state = 'open' OR (sold.state = 'landed' AND NEW.kind = 'replacement'))
            OR sold.meter_id <> NEW.meter_id
            OR sold.purchase_count <> NEW.purchase_count
            OR NEW.amount_fen <> (CASE NEW.kind WHEN 'refund' THEN 0 ELSE sold.amount_fen END)
        THEN
            RAISE 'card issue %: a card carries the count and amount of its open sale',
                NEW.issue_id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'a_card_carries_its_sale';
        END IF;
        IF EXISTS (SELECT FROM command WHERE sale_id = NEW.sale_id AND kind = 'burn')
            AND sold.state = 'open' THEN
            RAISE 'card issue %: the count of its sale is being burned', NEW.issue_id
                USING ERRCODE = 'check_violation', CONSTRAINT = 'what_is_burned_has_no_new_copy';
        END IF;
        -- From here on a copy may exist, whatever becomes of the write.
        IF NEW.kind <> 'refund' AND sold.state = 'open' THEN
            UPDATE sale SET copies_left = copies_left + 1 WHERE sale_id = NEW.sale_id;
        END IF;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER card_issue_begins BEFORE INSERT ON card_issue
    FOR EACH ROW EXECUTE FUNCTION card_issue_begins();

-- The same for a copy over the line.
CREATE FUNCTION no_copy_of_what_is_burned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM command WHERE sale_id = NEW.sale_id AND kind = 'burn') THEN
        RAISE 'command %: the count of its sale is being burned', NEW.command_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'what_is_burned_has_no_new_copy';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER no_copy_of_what_is_burned BEFORE INSERT ON command
    FOR EACH ROW WHEN (NEW.kind = 'top_up') EXECUTE FUNCTION no_copy_of_what_is_burned();

-- domain/card_issues.py TRANSITIONS, once more.
CREATE FUNCTION card_issue_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('pending', 'issued'), ('pending', 'clearing'), ('pending', 'used'), ('pending', 'lost'),
        ('issued', 'clearing'), ('issued', 'used'), ('issued', 'lost'), ('issued', 'revoked'),
        ('clearing', 'wiped'), ('clearing', 'used'), ('clearing', 'issued'), ('clearing', 'lost'),
        ('lost', 'used')
    ) THEN
        RAISE 'card issue %: % -> % is not a transition', OLD.issue_number, OLD.state, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'issues_move_by_their_table';
    END IF;
    IF (NEW.issue_number, NEW.issue_id, NEW.serial, NEW.kind, NEW.meter_id, NEW.sale_id,
            NEW.purchase_count, NEW.amount_fen, NEW.key_version, NEW.valid_until, NEW.details,
            NEW.issued_by, NEW.approved_by, NEW.reason, NEW.begun_at)
        IS DISTINCT FROM
        (OLD.issue_number, OLD.issue_id, OLD.serial, OLD.kind, OLD.meter_id, OLD.sale_id,
            OLD.purchase_count, OLD.amount_fen, OLD.key_version, OLD.valid_until, OLD.details,
            OLD.issued_by, OLD.approved_by, OLD.reason, OLD.begun_at) THEN
        RAISE 'card issue %: what was issued is never changed', OLD.issue_number
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_issue_stays_as_it_was_given';
    END IF;
    -- Seen unused on the reader and wiped: this copy is dead.
    IF OLD.state = 'clearing' AND NEW.state = 'wiped' AND NEW.sale_id IS NOT NULL
        AND NEW.kind <> 'refund' THEN
        UPDATE sale SET copies_refused = copies_refused + 1
            WHERE sale_id = NEW.sale_id AND state = 'open';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER card_issue_moves BEFORE UPDATE ON card_issue
    FOR EACH ROW EXECUTE FUNCTION card_issue_moves();

-- Every change of an issue, by the trigger and by nobody else.
CREATE TABLE card_event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    issue_number bigint NOT NULL REFERENCES card_issue,
    old_state text,
    new_state text NOT NULL,
    at timestamptz NOT NULL,
    note text NOT NULL
);
CREATE FUNCTION card_issue_tells() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO card_event (issue_number, old_state, new_state, at, note)
    VALUES (NEW.issue_number, CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state,
        NEW.changed_at, NEW.note);
    RETURN NULL;
END
$$;
CREATE TRIGGER card_issue_tells AFTER INSERT OR UPDATE OF state ON card_issue
    FOR EACH ROW EXECUTE FUNCTION card_issue_tells();

-- What meters wrote back, as it was read on a reader: witnesses, kept as they were.
CREATE TABLE card_look (
    look_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    serial bytea NOT NULL,
    meter_id integer NOT NULL REFERENCES meter,
    purchase_count bigint NOT NULL,
    total_purchased_fen bigint NOT NULL,
    remaining_credit_fen bigint NOT NULL,
    reason text NOT NULL,
    written_at timestamptz NOT NULL,  -- by the meter's clock
    CONSTRAINT a_write_back_is_kept_once
        UNIQUE (serial, meter_id, purchase_count, written_at, reason)
);

-- With two copies in the world nobody can say that both are dead: the count is burned.
ALTER TABLE sale ADD CONSTRAINT a_card_sale_with_two_copies_is_burned
    CHECK (state <> 'reversed' OR channel <> 'card' OR copies_left <= 1);

CREATE TRIGGER card_event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON card_event
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER card_look_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON card_look
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER card_sale_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON card_sale
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER issues_are_kept BEFORE DELETE OR TRUNCATE ON card_issue
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER cards_are_kept BEFORE DELETE OR TRUNCATE ON card
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
