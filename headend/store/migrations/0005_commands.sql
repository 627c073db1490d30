-- Orders to meters, each try of them, the numbered sales they carry, and what became of all of it.
--
-- The rules that must hold whatever a program does stand here: one order holds a meter at a time,
-- one sale is open at a time, a count belongs to one sale, states move by their table, and nothing
-- that happened is changed afterwards.

-- A numbered credit to one meter (headend/domain/purchases.py).
CREATE TABLE sale (
    sale_id uuid PRIMARY KEY,
    meter_id integer NOT NULL REFERENCES meter,
    purchase_count integer NOT NULL
        CONSTRAINT a_purchase_count_fits_its_register CHECK (purchase_count BETWEEN 1 AND 65534),
    amount_fen bigint NOT NULL
        CONSTRAINT a_sale_is_one_fen_to_50000_yuan CHECK (amount_fen BETWEEN 1 AND 5000000),
    state text NOT NULL DEFAULT 'open' CONSTRAINT a_sale_is_in_a_known_state
        CHECK (state IN ('open', 'landed', 'reversed', 'burned')),
    channel text NOT NULL,
    copies_left integer NOT NULL DEFAULT 0
        CONSTRAINT copies_do_not_come_back CHECK (copies_left >= 0),
    -- Copies the meter itself answered with a no, shown by a look after it: these cannot land.
    copies_refused integer NOT NULL DEFAULT 0
        CONSTRAINT only_what_left_is_refused CHECK (copies_refused BETWEEN 0 AND copies_left),
    opened_at timestamptz NOT NULL,
    closed_at timestamptz,
    CONSTRAINT a_sale_is_open_until_it_is_closed CHECK ((state = 'open') = (closed_at IS NULL)),
    -- What may still land is burned first; giving its money back at once would credit twice.
    CONSTRAINT a_sale_that_may_still_land_is_not_reversed
        CHECK (state <> 'reversed' OR copies_refused = copies_left)
);
CREATE UNIQUE INDEX a_purchase_count_belongs_to_one_sale ON sale (meter_id, purchase_count)
    WHERE state <> 'reversed';
CREATE UNIQUE INDEX a_meter_has_one_open_sale ON sale (meter_id) WHERE state = 'open';

CREATE FUNCTION sale_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'open' THEN
        RAISE EXCEPTION 'sale % is %: it is never changed again', OLD.sale_id, OLD.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_closed_sale_stays_as_it_is';
    END IF;
    IF (NEW.sale_id, NEW.meter_id, NEW.purchase_count, NEW.amount_fen, NEW.channel, NEW.opened_at)
        IS DISTINCT FROM
        (OLD.sale_id, OLD.meter_id, OLD.purchase_count, OLD.amount_fen, OLD.channel, OLD.opened_at)
        OR NEW.copies_left < OLD.copies_left OR NEW.copies_refused < OLD.copies_refused THEN
        RAISE EXCEPTION 'sale %: count and amount are tied for ever', OLD.sale_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_count_is_tied_to_its_amount';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER sale_moves BEFORE UPDATE ON sale FOR EACH ROW EXECUTE FUNCTION sale_moves();

-- Sales to a meter stop while the meter and the books tell different stories. A person who has
-- found out why ends it and says which count of the meter is agreed from then on.
CREATE TABLE sales_freeze (
    freeze_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id integer NOT NULL REFERENCES meter,
    frozen_at timestamptz NOT NULL,
    reason text NOT NULL,
    thawed_at timestamptz,
    thawed_by integer REFERENCES operator,
    thaw_reason text,
    count_agreed integer,
    CONSTRAINT a_freeze_is_ended_by_somebody_for_a_reason CHECK (
        (thawed_at IS NULL) = (thawed_by IS NULL) AND (thawed_at IS NULL) = (thaw_reason IS NULL)
        AND (thawed_at IS NULL) = (count_agreed IS NULL))
);
CREATE UNIQUE INDEX a_meter_is_frozen_once_at_a_time ON sales_freeze (meter_id)
    WHERE thawed_at IS NULL;

-- An order to one meter (headend/domain/commands.py).
CREATE TABLE command (
    command_id uuid PRIMARY KEY,
    meter_id integer NOT NULL REFERENCES meter,
    kind text NOT NULL CONSTRAINT a_command_is_of_a_known_kind
        CHECK (kind IN ('top_up', 'burn', 'cut', 'restore', 'release', 'configure')),
    state text NOT NULL DEFAULT 'queued' CONSTRAINT a_command_is_in_a_known_state
        CHECK (state IN ('queued', 'claimed', 'sent', 'unknown', 'escalated', 'confirmed',
            'refused', 'expired', 'cancelled')),
    amount_fen bigint,
    purchase_count integer,
    sale_id uuid REFERENCES sale,
    details jsonb NOT NULL,
    ordered_by integer NOT NULL REFERENCES operator,
    approved_by integer REFERENCES operator
        CONSTRAINT who_asks_does_not_approve CHECK (approved_by <> ordered_by),
    reason text NOT NULL,
    cause_id uuid REFERENCES command,  -- the command this one follows from
    bulk_id uuid,
    ordered_at timestamptz NOT NULL,
    not_before timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    look_again_at timestamptz,
    changed_at timestamptz NOT NULL,  -- when it came into its state
    attempts integer NOT NULL DEFAULT 0,  -- tries whose intent was recorded
    misses integer NOT NULL DEFAULT 0,  -- tries in a row that ended before anything was sent
    outcome text NOT NULL DEFAULT '',
    CONSTRAINT money_has_an_amount_a_count_and_a_sale CHECK (
        CASE kind
            WHEN 'top_up' THEN amount_fen IS NOT NULL AND amount_fen BETWEEN 1 AND 5000000
            WHEN 'burn' THEN amount_fen IS NOT NULL AND amount_fen = 0
            ELSE amount_fen IS NULL
        END
        AND (kind IN ('top_up', 'burn')) = (purchase_count IS NOT NULL)
        AND (kind IN ('top_up', 'burn')) = (sale_id IS NOT NULL)),
    CONSTRAINT an_unknown_says_when_to_look_again
        CHECK ((state = 'unknown') = (look_again_at IS NOT NULL)),
    CONSTRAINT a_command_lives_before_it_expires CHECK (expires_at > ordered_at)
) WITH (fillfactor = 70);  -- each is rewritten some five times
-- An escalated order holds its meter too: until a person has decided, nobody knows its state.
CREATE UNIQUE INDEX one_command_in_flight_per_meter ON command (meter_id)
    WHERE state IN ('claimed', 'sent', 'unknown', 'escalated');
CREATE UNIQUE INDEX a_sale_is_topped_up_by_one_command ON command (sale_id)
    WHERE kind = 'top_up';
-- A line's next order is found through its meters, among thousands that wait on other lines.
CREATE INDEX commands_that_wait ON command (meter_id) WHERE state = 'queued';
CREATE INDEX commands_to_look_at ON command (look_again_at) WHERE state = 'unknown';
CREATE INDEX commands_of_a_meter ON command (meter_id, ordered_at);
CREATE INDEX commands_of_a_bulk ON command (bulk_id) WHERE bulk_id IS NOT NULL;
CREATE INDEX commands_that_follow ON command (cause_id) WHERE cause_id IS NOT NULL;
CREATE INDEX top_ups_under_way ON command (ordered_at) WHERE kind = 'top_up'
    AND state IN ('queued', 'claimed', 'sent', 'unknown', 'escalated');
CREATE INDEX restores_without_light ON command (ordered_at) WHERE kind = 'restore'
    AND state <> 'confirmed' AND cause_id IS NOT NULL;
CREATE INDEX commands_of_a_sale ON command (sale_id) WHERE sale_id IS NOT NULL;

-- The table of domain/commands.py TRANSITIONS, once more.
CREATE FUNCTION command_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> NEW.state AND (OLD.state, NEW.state) NOT IN (
        ('queued', 'claimed'), ('queued', 'expired'), ('queued', 'cancelled'),
        ('claimed', 'queued'), ('claimed', 'sent'), ('claimed', 'refused'),
        ('claimed', 'escalated'),
        ('sent', 'confirmed'), ('sent', 'refused'), ('sent', 'unknown'),
        ('unknown', 'confirmed'), ('unknown', 'queued'), ('unknown', 'escalated'),
        ('escalated', 'confirmed'), ('escalated', 'refused')
    ) THEN
        RAISE EXCEPTION 'command %: % -> % is not a transition', OLD.command_id, OLD.state,
            NEW.state USING ERRCODE = 'check_violation', CONSTRAINT = 'states_move_by_their_table';
    END IF;
    IF OLD.state IN ('confirmed', 'refused', 'expired', 'cancelled') AND NEW <> OLD THEN
        RAISE EXCEPTION 'command % has ended: it is never changed again', OLD.command_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_command_that_ended_stays_as_it_is';
    END IF;
    IF (NEW.command_id, NEW.meter_id, NEW.kind, NEW.amount_fen, NEW.purchase_count, NEW.sale_id,
            NEW.details, NEW.ordered_by, NEW.approved_by, NEW.reason, NEW.cause_id, NEW.bulk_id,
            NEW.ordered_at, NEW.expires_at)
        IS DISTINCT FROM
        (OLD.command_id, OLD.meter_id, OLD.kind, OLD.amount_fen, OLD.purchase_count, OLD.sale_id,
            OLD.details, OLD.ordered_by, OLD.approved_by, OLD.reason, OLD.cause_id, OLD.bulk_id,
            OLD.ordered_at, OLD.expires_at) THEN
        RAISE EXCEPTION 'command %: what was ordered is never changed', OLD.command_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_order_stays_as_it_was_given';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER command_moves BEFORE UPDATE ON command
    FOR EACH ROW EXECUTE FUNCTION command_moves();

CREATE FUNCTION command_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> 'queued' THEN
        RAISE EXCEPTION 'command %: it begins queued, not %', NEW.command_id, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_command_begins_queued';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER command_begins BEFORE INSERT ON command
    FOR EACH ROW EXECUTE FUNCTION command_begins();

-- One try whose intent was recorded: what the meter showed before, and whatever came after.
CREATE TABLE attempt (
    command_id uuid NOT NULL REFERENCES command,
    attempt_no integer NOT NULL CONSTRAINT attempts_count_from_one CHECK (attempt_no >= 1),
    kind text NOT NULL,
    meter_id integer NOT NULL,
    began_at timestamptz NOT NULL,
    sent_at timestamptz NOT NULL,  -- the intent: from here on anything may have happened
    ended_at timestamptz,
    before jsonb NOT NULL,
    after jsonb,  -- the look that settled it
    looks jsonb NOT NULL DEFAULT '[]',  -- looks that did not
    frames jsonb NOT NULL DEFAULT '[]',
    outcome text,
    PRIMARY KEY (command_id, attempt_no),
    CONSTRAINT an_attempt_that_ended_has_an_outcome CHECK ((ended_at IS NULL) = (outcome IS NULL)),
    CONSTRAINT an_attempt_has_a_known_outcome
        CHECK (outcome IN ('applied', 'not_applied', 'refused', 'decided'))
);
CREATE INDEX attempts_by_time ON attempt (kind, sent_at) WHERE kind IN ('cut', 'restore', 'release');
CREATE INDEX attempts_of_a_meter ON attempt (meter_id, sent_at);

CREATE FUNCTION attempt_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.ended_at IS NOT NULL
        OR (NEW.command_id, NEW.attempt_no, NEW.kind, NEW.meter_id, NEW.began_at, NEW.sent_at,
            NEW.before) IS DISTINCT FROM
           (OLD.command_id, OLD.attempt_no, OLD.kind, OLD.meter_id, OLD.began_at, OLD.sent_at,
            OLD.before) THEN
        RAISE EXCEPTION 'attempt % of command %: evidence is never changed', OLD.attempt_no,
            OLD.command_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'evidence_stays_as_it_was_seen';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER attempt_moves BEFORE UPDATE ON attempt
    FOR EACH ROW EXECUTE FUNCTION attempt_moves();

-- One row for each change of a command's state, written by the trigger below and by nobody else;
-- 'late' rows say that the light of a tenant who paid is still off.
CREATE TABLE command_event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    command_id uuid NOT NULL REFERENCES command,
    meter_id integer NOT NULL,
    kind text NOT NULL,
    old_state text,
    new_state text NOT NULL,
    at timestamptz NOT NULL,
    note text NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX events_of_a_command ON command_event (command_id, event_id);

CREATE FUNCTION command_tells() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    number bigint;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.state = OLD.state THEN
        RETURN NULL;
    END IF;
    INSERT INTO command_event (command_id, meter_id, kind, old_state, new_state, at, note)
    VALUES (NEW.command_id, NEW.meter_id, NEW.kind,
        CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state, NEW.changed_at, NEW.outcome)
    RETURNING event_id INTO number;
    PERFORM pg_notify('command_events', number::text);
    IF NEW.state IN ('queued', 'unknown') THEN
        PERFORM pg_notify('commands', (
            SELECT line_id::text FROM meter WHERE meter.meter_id = NEW.meter_id));
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER command_tells AFTER INSERT OR UPDATE OF state ON command
    FOR EACH ROW EXECUTE FUNCTION command_tells();

-- How often the late light of a payment was told, so that each step is told once.
CREATE TABLE restore_alarm (
    command_id uuid NOT NULL REFERENCES command,
    after_s integer NOT NULL,
    told_at timestamptz NOT NULL,
    CONSTRAINT each_step_is_told_once PRIMARY KEY (command_id, after_s)
);

CREATE FUNCTION never_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is only ever added to', TG_TABLE_NAME
        USING ERRCODE = 'check_violation', CONSTRAINT = 'what_happened_stays_as_it_was_written';
END
$$;
CREATE TRIGGER command_event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON command_event
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER attempts_are_kept BEFORE DELETE OR TRUNCATE ON attempt
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER commands_are_kept BEFORE DELETE OR TRUNCATE ON command
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER sales_are_kept BEFORE DELETE OR TRUNCATE ON sale
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
