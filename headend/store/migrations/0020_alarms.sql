-- Alarms as people work with them: raised, acknowledged, closed; and work orders that come of them.
--
-- One alarm stands for each kind and subject. What lasts is seen again and counted, not raised
-- again; its rise and its fall are each one change of one row.

ALTER TABLE alarm
    ADD COLUMN site_id integer REFERENCES site,  -- null: about no property, for who sees all
    ADD COLUMN gateway_id integer REFERENCES gateway,
    ADD COLUMN command_id uuid REFERENCES command,
    ADD COLUMN severity text NOT NULL DEFAULT 'warning' CONSTRAINT an_alarm_has_a_known_severity
        CHECK (severity IN ('notice', 'warning', 'urgent')),
    ADD COLUMN last_seen_at timestamptz,
    ADD COLUMN seen_count integer NOT NULL DEFAULT 1
        CONSTRAINT an_alarm_was_seen CHECK (seen_count >= 1),
    ADD COLUMN acknowledged_at timestamptz,
    ADD COLUMN acknowledged_by integer REFERENCES operator,
    ADD COLUMN assigned_to integer REFERENCES operator,
    ADD COLUMN note text NOT NULL DEFAULT '',
    ADD COLUMN closed_by integer REFERENCES operator,  -- null: its cause was gone
    ADD COLUMN closed_reason text,
    -- When its cause was gone. Of an alarm that a person closed before that, later or never.
    ADD COLUMN over_at timestamptz,
    ADD COLUMN version integer NOT NULL DEFAULT 1;  -- of what people change, for their edits

UPDATE alarm SET last_seen_at = raised_at, over_at = cleared_at,
    site_id = (SELECT meter.site_id FROM meter WHERE meter.meter_id = alarm.meter_id);
ALTER TABLE alarm ALTER COLUMN last_seen_at SET NOT NULL;
ALTER TABLE alarm
    ADD COLUMN state text NOT NULL GENERATED ALWAYS AS (
        CASE WHEN cleared_at IS NOT NULL THEN 'closed'
            WHEN acknowledged_at IS NOT NULL THEN 'acknowledged' ELSE 'raised' END) STORED,
    ADD CONSTRAINT somebody_acknowledges CHECK (
        (acknowledged_at IS NULL) = (acknowledged_by IS NULL)),
    ADD CONSTRAINT who_closes_says_why CHECK (
        (closed_by IS NULL) = (closed_reason IS NULL)
        AND (closed_by IS NULL OR cleared_at IS NOT NULL) AND closed_reason <> '');

DROP INDEX an_alarm_is_raised_once;
CREATE UNIQUE INDEX an_alarm_is_raised_once ON alarm (
    code, (coalesce(meter_id, 0)), (coalesce(gateway_id, 0)),
    (coalesce(command_id, '00000000-0000-0000-0000-000000000000'))) WHERE cleared_at IS NULL;
CREATE INDEX alarms_of_a_meter ON alarm (meter_id, alarm_id);
-- Closed by a person while the cause stood: looked at before the same is raised anew.
CREATE INDEX alarms_closed_early ON alarm (code) WHERE closed_by IS NOT NULL AND over_at IS NULL;

CREATE FUNCTION alarm_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.cleared_at IS NOT NULL AND (NEW.cleared_at, NEW.closed_by, NEW.closed_reason,
            NEW.acknowledged_at, NEW.acknowledged_by, NEW.assigned_to, NEW.note)
        IS DISTINCT FROM (OLD.cleared_at, OLD.closed_by, OLD.closed_reason,
            OLD.acknowledged_at, OLD.acknowledged_by, OLD.assigned_to, OLD.note)
        OR (OLD.acknowledged_at IS NOT NULL AND NEW.acknowledged_at IS DISTINCT FROM
            OLD.acknowledged_at)
        OR (NEW.code, NEW.meter_id, NEW.gateway_id, NEW.command_id, NEW.raised_at)
        IS DISTINCT FROM (OLD.code, OLD.meter_id, OLD.gateway_id, OLD.command_id, OLD.raised_at)
    THEN
        RAISE EXCEPTION 'alarm %: raised, acknowledged, closed, and never back', OLD.alarm_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'alarms_move_one_way';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER alarm_moves BEFORE UPDATE ON alarm FOR EACH ROW EXECUTE FUNCTION alarm_moves();

-- When what counts as an alarm, property by property. The newest row of a site is in force.
CREATE TABLE alarm_rule (
    rule_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES site,
    set_at timestamptz NOT NULL,
    set_by integer REFERENCES operator,
    low_credit_fen bigint NOT NULL,
    very_low_credit_fen bigint NOT NULL,
    arrears_fen bigint NOT NULL,
    meter_offline_min integer NOT NULL,
    gateway_offline_min integer NOT NULL,
    clock_drift_s integer NOT NULL,
    unknown_min integer NOT NULL,
    CONSTRAINT the_first_warning_comes_first CHECK (low_credit_fen >= very_low_credit_fen)
);
CREATE INDEX alarm_rules_of_a_site ON alarm_rule (site_id, rule_id DESC);

-- Work for a technician: opened from an alarm or by hand, closed with what was done.
CREATE TABLE work_order (
    work_order_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES site,
    alarm_id bigint REFERENCES alarm,
    meter_id integer REFERENCES meter,
    gateway_id integer REFERENCES gateway,
    title text NOT NULL CONSTRAINT a_work_order_says_what_to_do CHECK (title <> ''),
    opened_at timestamptz NOT NULL,
    opened_by integer NOT NULL REFERENCES operator,
    assigned_to integer REFERENCES operator,
    closed_at timestamptz,
    closed_by integer REFERENCES operator,
    closed_reason text,
    version integer NOT NULL DEFAULT 1,
    CONSTRAINT a_work_order_is_closed_by_somebody_for_a_reason CHECK (
        num_nonnulls(closed_at, closed_by, closed_reason) IN (0, 3) AND closed_reason <> '')
);
CREATE UNIQUE INDEX an_alarm_has_one_open_work_order ON work_order (alarm_id)
    WHERE closed_at IS NULL;
CREATE INDEX work_orders_that_are_open ON work_order (site_id) WHERE closed_at IS NULL;

CREATE TABLE work_order_event (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    work_order_id bigint NOT NULL REFERENCES work_order,
    at timestamptz NOT NULL,
    operator_id integer NOT NULL REFERENCES operator,
    action text NOT NULL CONSTRAINT a_work_order_event_is_of_a_known_kind
        CHECK (action IN ('opened', 'assigned', 'commented', 'closed')),
    text text NOT NULL
);
CREATE INDEX events_of_a_work_order ON work_order_event (work_order_id, event_id);
CREATE TRIGGER work_order_event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE
    ON work_order_event FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER work_orders_are_kept BEFORE DELETE OR TRUNCATE ON work_order
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER alarms_are_kept BEFORE DELETE OR TRUNCATE ON alarm
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

CREATE FUNCTION work_order_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.closed_at IS NOT NULL THEN
        RAISE EXCEPTION 'work order %: it is closed once', OLD.work_order_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_work_order_is_closed_once';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER work_order_moves BEFORE UPDATE ON work_order
    FOR EACH ROW EXECUTE FUNCTION work_order_moves();

-- Money nobody can be sure of while a meter is not looked after: top-ups without an end, what the
-- meter and the books differ by, arrears that grow.
CREATE FUNCTION money_at_risk_fen(meter integer) RETURNS bigint STABLE LANGUAGE sql
RETURN (
    SELECT coalesce(sum(amount_fen), 0) FROM command
    WHERE command.meter_id = money_at_risk_fen.meter AND kind = 'top_up'
        AND state IN ('queued', 'claimed', 'sent', 'unknown', 'escalated')
) + coalesce((
    SELECT abs(coalesce(ahead_fen, 0)) FROM meter_difference
    WHERE meter_difference.meter_id = money_at_risk_fen.meter AND closed_at IS NULL
), 0) + coalesce((
    SELECT greatest(0, -coalesce(remaining_credit_fen, 0)) FROM meter_last
    WHERE meter_last.meter_id = money_at_risk_fen.meter
), 0);
