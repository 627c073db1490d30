-- Who may be cut, and switching many meters: protections, lock-outs, calendars, bulk jobs.
--
-- All of this is evidence when a room was dark that should not have been, so nothing is deleted
-- and little is changed: a protection or lock-out is lifted once, a calendar gets a successor.

CREATE FUNCTION supply_evidence_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is evidence: its rows are never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE FUNCTION lifted_once_and_nothing_else() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    lifting text[] := ARRAY['lifted_at', 'lifted_by', 'lifted_reason'];
BEGIN
    IF OLD.lifted_at IS NOT NULL OR to_jsonb(NEW) - lifting <> to_jsonb(OLD) - lifting THEN
        RAISE EXCEPTION '% is evidence: a row is lifted once and never changed', TG_TABLE_NAME
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;

-- 保电: a meter, or all meters of a room, that no one may cut until a stated day.
CREATE TABLE protection (
    protection_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id integer REFERENCES meter,
    room_id integer REFERENCES room,
    reason text NOT NULL CONSTRAINT a_protection_says_why CHECK (reason <> ''),
    granted_at timestamptz NOT NULL,
    granted_by integer NOT NULL REFERENCES operator,
    expires_at timestamptz NOT NULL,
    lifted_at timestamptz,
    lifted_by integer REFERENCES operator,
    lifted_reason text,
    CONSTRAINT a_protection_is_of_one_meter_or_one_room CHECK (num_nonnulls(meter_id, room_id) = 1),
    CONSTRAINT a_protection_lasts_a_while CHECK (expires_at > granted_at),
    CONSTRAINT who_lifts_a_protection_says_why
        CHECK (num_nonnulls(lifted_at, lifted_by, lifted_reason) IN (0, 3))
);
CREATE INDEX protections_of_a_meter ON protection (meter_id) WHERE lifted_at IS NULL;
CREATE INDEX protections_of_a_room ON protection (room_id) WHERE lifted_at IS NULL;

-- Somebody works on a circuit, a cabinet or a whole line. It does not expire: whoever forgets it
-- finds the circuit dead, whoever it expired on might be dead.
CREATE TABLE lock_out (
    lock_out_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id integer REFERENCES meter,
    cabinet_id integer REFERENCES cabinet,
    line_id integer REFERENCES line,
    reason text NOT NULL CONSTRAINT a_lock_out_says_why CHECK (reason <> ''),
    locked_at timestamptz NOT NULL,
    locked_by integer NOT NULL REFERENCES operator,
    lifted_at timestamptz,
    lifted_by integer REFERENCES operator,
    lifted_reason text,
    CONSTRAINT a_lock_out_is_of_one_place CHECK (num_nonnulls(meter_id, cabinet_id, line_id) = 1),
    CONSTRAINT who_lifts_a_lock_out_says_why
        CHECK (num_nonnulls(lifted_at, lifted_by, lifted_reason) IN (0, 3))
);
CREATE INDEX lock_outs_at_work ON lock_out (lock_out_id) WHERE lifted_at IS NULL;

-- The newest row of a site holds; the older ones say what held when something was cut.
CREATE TABLE site_calendar (
    calendar_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES site,
    set_at timestamptz NOT NULL,
    set_by integer REFERENCES operator,  -- null: by a site file or a demonstration
    spare_weekends boolean NOT NULL,
    friendly_hours jsonb NOT NULL,  -- [{"begins": "20:00", "ends": "08:00", "weekdays": [0, 1]}]
    holidays jsonb NOT NULL,  -- {"2026-10-01": "National Day"}
    working_days jsonb NOT NULL  -- ["2026-10-10"]
);
CREATE INDEX calendars_of_a_site ON site_calendar (site_id, calendar_id DESC);

CREATE TABLE bulk_job (
    bulk_id uuid PRIMARY KEY,
    action text NOT NULL CONSTRAINT many_are_cut_or_restored CHECK (action IN ('cut', 'restore')),
    state text NOT NULL,
    changed_at timestamptz NOT NULL,  -- when and by whom the state became what it is
    changed_by integer REFERENCES operator,  -- null: by the runner
    cut_below_fen bigint,
    reason text NOT NULL CONSTRAINT a_bulk_job_says_why CHECK (reason <> ''),
    planned_by integer NOT NULL REFERENCES operator,
    planned_at timestamptz NOT NULL,
    sha256 text NOT NULL CONSTRAINT a_list_has_its_hash CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    needs_approval boolean NOT NULL,
    approved_by integer REFERENCES operator,
    approved_at timestamptz,
    limits jsonb NOT NULL,
    damage jsonb NOT NULL,
    undo_of uuid REFERENCES bulk_job,
    batch integer NOT NULL DEFAULT 0,
    batch_began_at timestamptz,
    batch_ended_at timestamptz,
    halted_by integer REFERENCES operator,
    halt_reason text NOT NULL DEFAULT '',
    CONSTRAINT a_halt_says_why CHECK (state <> 'halted' OR halt_reason <> ''),
    CONSTRAINT an_undo_restores CHECK (undo_of IS NULL OR action = 'restore')
);
CREATE INDEX bulk_jobs_at_work ON bulk_job (bulk_id)
    WHERE state IN ('canary', 'watching', 'ramp');
CREATE INDEX undos_of_a_bulk_job ON bulk_job (undo_of) WHERE undo_of IS NOT NULL;

CREATE TABLE bulk_item (
    bulk_id uuid NOT NULL REFERENCES bulk_job,
    meter_id integer NOT NULL REFERENCES meter,
    position integer,  -- its turn; null: spared by the plan, kept as an answer to "why not"
    state text NOT NULL,
    batch integer,  -- the batch it was ordered in
    rule text NOT NULL DEFAULT '',  -- of spared: headend/domain/supply.py Rule
    detail text NOT NULL DEFAULT '',  -- one sentence
    command_id uuid CONSTRAINT a_command_belongs_to_one_item UNIQUE REFERENCES command,
    not_before timestamptz,  -- of a restore that waits: for the toggle gap, for an order to end
    changed_at timestamptz,  -- when it last moved; a job in which nothing moves is stalled
    CONSTRAINT a_meter_is_in_a_list_once PRIMARY KEY (bulk_id, meter_id),
    CONSTRAINT two_items_cannot_share_a_turn UNIQUE (bulk_id, position),
    CONSTRAINT an_item_with_a_turn_or_a_rule CHECK (position IS NOT NULL OR state = 'spared'),
    CONSTRAINT who_is_spared_hears_the_rule CHECK (state <> 'spared' OR rule <> ''),
    CONSTRAINT what_was_ordered_has_its_command CHECK (
        state NOT IN ('ordered', 'unknown', 'done') OR command_id IS NOT NULL)
) WITH (fillfactor = 80);
CREATE INDEX items_waiting ON bulk_item (bulk_id, position) WHERE state = 'waiting';
CREATE INDEX items_on_their_way ON bulk_item (bulk_id) WHERE state IN ('ordered', 'unknown');
CREATE INDEX items_of_a_meter ON bulk_item (meter_id);

CREATE TABLE bulk_approval (
    approval_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bulk_id uuid NOT NULL REFERENCES bulk_job,
    sha256 text NOT NULL,
    approved_by integer NOT NULL REFERENCES operator,
    approved_at timestamptz NOT NULL
);
CREATE INDEX approvals_of_a_bulk_job ON bulk_approval (bulk_id);

CREATE TABLE bulk_event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    bulk_id uuid NOT NULL REFERENCES bulk_job,
    at timestamptz NOT NULL,
    state_before text,
    state_after text NOT NULL,
    operator_id integer REFERENCES operator,
    sha256 text NOT NULL,
    detail text NOT NULL
);
CREATE INDEX events_of_a_bulk_job ON bulk_event (bulk_id, event_id);

-- Who approves is another person than who planned, and approves the list as it is now.
CREATE FUNCTION approval_is_of_this_list_by_another_person() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM bulk_job
        JOIN operator AS planner ON planner.operator_id = bulk_job.planned_by
        JOIN operator AS approver ON approver.operator_id = NEW.approved_by
        WHERE bulk_job.bulk_id = NEW.bulk_id AND bulk_job.state = 'planned'
            AND bulk_job.sha256 = NEW.sha256 AND approver.person <> planner.person
            AND approver.disabled_at IS NULL
    ) THEN
        RAISE EXCEPTION 'an approval is of the planned list as it is, by another person'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;

-- The same table as headend/domain/bulk.py JOB_TRANSITIONS.
CREATE FUNCTION bulk_job_moves(before text, after text) RETURNS boolean
    LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE before
        WHEN 'planned' THEN after IN ('approved', 'cancelled')
        WHEN 'approved' THEN after IN ('planned', 'canary', 'cancelled')
        WHEN 'canary' THEN after IN ('watching', 'ramp', 'done', 'halted')
        WHEN 'watching' THEN after IN ('ramp', 'halted')
        WHEN 'ramp' THEN after IN ('done', 'halted')
        ELSE false
    END
$$;

-- The same table as headend/domain/bulk.py ITEM_TRANSITIONS.
CREATE FUNCTION bulk_item_moves(before text, after text) RETURNS boolean
    LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE before
        WHEN 'waiting' THEN after IN ('ordered', 'spared', 'failed', 'left')
        WHEN 'ordered' THEN after IN ('done', 'failed', 'unknown', 'spared', 'left')
        WHEN 'unknown' THEN after IN ('ordered', 'done', 'failed', 'spared', 'left')
        ELSE false
    END
$$;

CREATE FUNCTION bulk_job_keeps_its_table() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    fixed text[] := ARRAY['bulk_id', 'action', 'cut_below_fen', 'planned_by', 'planned_at',
                          'limits', 'undo_of', 'needs_approval'];
    named text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'planned' THEN
            RAISE EXCEPTION 'a bulk job begins as a plan'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END IF;
    FOREACH named IN ARRAY fixed LOOP
        IF to_jsonb(NEW) -> named IS DISTINCT FROM to_jsonb(OLD) -> named THEN
            RAISE EXCEPTION 'the % of a bulk job never changes', named
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
    END LOOP;
    IF NEW.sha256 <> OLD.sha256 AND NEW.state <> 'planned' THEN
        RAISE EXCEPTION 'a bulk job whose list changed is planned again'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.state = OLD.state THEN
        RETURN NEW;
    END IF;
    IF NOT bulk_job_moves(OLD.state, NEW.state) THEN
        RAISE EXCEPTION 'a bulk job cannot go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.state IN ('approved', 'canary') AND NEW.needs_approval AND NOT EXISTS (
        SELECT FROM bulk_approval
        WHERE bulk_id = NEW.bulk_id AND sha256 = NEW.sha256
            AND approved_by = NEW.approved_by AND approved_at = NEW.approved_at
    ) THEN
        RAISE EXCEPTION 'this bulk job needs a second person who approves its list'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION bulk_job_writes_its_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO bulk_event (bulk_id, at, state_after, operator_id, sha256, detail)
        VALUES (NEW.bulk_id, NEW.changed_at, NEW.state, NEW.changed_by, NEW.sha256, NEW.reason);
    ELSIF NEW.state <> OLD.state OR NEW.sha256 <> OLD.sha256 THEN
        INSERT INTO bulk_event
            (bulk_id, at, state_before, state_after, operator_id, sha256, detail)
        VALUES (NEW.bulk_id, NEW.changed_at, OLD.state, NEW.state, NEW.changed_by, NEW.sha256,
            CASE WHEN NEW.state = 'halted' THEN NEW.halt_reason ELSE '' END);
    END IF;
    PERFORM pg_notify('bulk', NEW.bulk_id::text);
    RETURN NULL;
END
$$;

-- A list is made while its job is planned; afterwards its items only move along their table.
CREATE FUNCTION bulk_item_keeps_its_table() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    job_state text := (SELECT state FROM bulk_job WHERE bulk_id = NEW.bulk_id);
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF job_state <> 'planned' THEN
            RAISE EXCEPTION 'a list grows only while its job is planned'
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF NEW.bulk_id <> OLD.bulk_id OR NEW.meter_id <> OLD.meter_id
        OR NEW.position IS DISTINCT FROM OLD.position
        OR (OLD.command_id IS NOT NULL AND NEW.command_id IS DISTINCT FROM OLD.command_id) THEN
        RAISE EXCEPTION 'an item keeps its meter, its turn and its command'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    IF NEW.state <> OLD.state AND NOT bulk_item_moves(OLD.state, NEW.state) THEN
        RAISE EXCEPTION 'an item of a bulk job cannot go from % to %', OLD.state, NEW.state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    -- The stop button in its last place: nothing new leaves a job that does not run.
    IF OLD.state = 'waiting' AND NEW.state = 'ordered' AND job_state NOT IN ('canary', 'ramp') THEN
        RAISE EXCEPTION 'a bulk job that is % orders nothing', job_state
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER approval_is_of_this_list_by_another_person BEFORE INSERT ON bulk_approval
    FOR EACH ROW EXECUTE FUNCTION approval_is_of_this_list_by_another_person();
CREATE TRIGGER bulk_job_keeps_its_table BEFORE INSERT OR UPDATE ON bulk_job
    FOR EACH ROW EXECUTE FUNCTION bulk_job_keeps_its_table();
CREATE TRIGGER bulk_job_writes_its_events AFTER INSERT OR UPDATE ON bulk_job
    FOR EACH ROW EXECUTE FUNCTION bulk_job_writes_its_events();
CREATE TRIGGER bulk_item_keeps_its_table BEFORE INSERT OR UPDATE ON bulk_item
    FOR EACH ROW EXECUTE FUNCTION bulk_item_keeps_its_table();

CREATE TRIGGER protection_is_lifted_once BEFORE UPDATE ON protection
    FOR EACH ROW EXECUTE FUNCTION lifted_once_and_nothing_else();
CREATE TRIGGER lock_out_is_lifted_once BEFORE UPDATE ON lock_out
    FOR EACH ROW EXECUTE FUNCTION lifted_once_and_nothing_else();

CREATE TRIGGER site_calendar_stays BEFORE UPDATE ON site_calendar
    FOR EACH ROW EXECUTE FUNCTION supply_evidence_stays();
CREATE TRIGGER bulk_approval_stays BEFORE UPDATE ON bulk_approval
    FOR EACH ROW EXECUTE FUNCTION supply_evidence_stays();
CREATE TRIGGER bulk_event_stays BEFORE UPDATE ON bulk_event
    FOR EACH ROW EXECUTE FUNCTION supply_evidence_stays();
DO $$
DECLARE
    named text;
BEGIN
    FOREACH named IN ARRAY ARRAY['protection', 'lock_out', 'site_calendar', 'bulk_job', 'bulk_item',
                                 'bulk_approval', 'bulk_event'] LOOP
        EXECUTE format('CREATE TRIGGER %I BEFORE DELETE OR TRUNCATE ON %I FOR EACH STATEMENT '
                       'EXECUTE FUNCTION supply_evidence_stays()', named || '_is_kept', named);
    END LOOP;
END
$$;
