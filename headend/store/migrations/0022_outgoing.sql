-- What goes out: events for programs, letters and messages for people. Each is committed with what
-- it tells, and sent at least once with an id that its receiver can know it again by.

-- `position` is given afterwards, by one at a time: a number from a sequence may become visible
-- later than a higher one, and whoever reads on from a cursor would miss it.
CREATE TABLE outgoing_event (
    event_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id uuid NOT NULL DEFAULT gen_random_uuid(),
    kind text NOT NULL,
    at timestamptz NOT NULL,
    site_id integer,
    body jsonb NOT NULL,
    position bigint CONSTRAINT an_event_has_its_own_position UNIQUE
);
CREATE INDEX events_without_position ON outgoing_event (event_no) WHERE position IS NULL;
CREATE TABLE outgoing_position (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    last bigint NOT NULL
);
INSERT INTO outgoing_position (last) VALUES (0);

CREATE FUNCTION tell_outside(kind text, at timestamptz, meter integer, site integer, body jsonb)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO outgoing_event (kind, at, site_id, body)
    SELECT tell_outside.kind, tell_outside.at,
        coalesce(site, (SELECT site_id FROM meter AS m WHERE m.meter_id = tell_outside.meter)),
        jsonb_build_object('meter', (SELECT name FROM meter AS m
            WHERE m.meter_id = tell_outside.meter)) || body
$$;

CREATE FUNCTION command_event_goes_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tell_outside('command.' || NEW.new_state, NEW.at, NEW.meter_id, NULL,
        jsonb_build_object('command_id', NEW.command_id, 'command', NEW.kind,
            'state', NEW.new_state, 'state_before', NEW.old_state, 'note', NEW.note));
    RETURN NULL;
END
$$;
CREATE TRIGGER command_event_goes_out AFTER INSERT ON command_event
    FOR EACH ROW EXECUTE FUNCTION command_event_goes_out();

CREATE FUNCTION sale_goes_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.state = OLD.state THEN
        RETURN NULL;
    END IF;
    PERFORM tell_outside('sale.' || CASE NEW.state WHEN 'open' THEN 'opened' ELSE NEW.state END,
        coalesce(NEW.closed_at, NEW.opened_at), NEW.meter_id, NULL,
        jsonb_build_object('sale_id', NEW.sale_id, 'purchase_count', NEW.purchase_count,
            'amount_fen', NEW.amount_fen, 'channel', NEW.channel));
    RETURN NULL;
END
$$;
CREATE TRIGGER sale_goes_out AFTER INSERT OR UPDATE OF state ON sale
    FOR EACH ROW EXECUTE FUNCTION sale_goes_out();

CREATE FUNCTION alarm_goes_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.state = OLD.state THEN
        RETURN NULL;
    END IF;
    PERFORM tell_outside('alarm.' || NEW.state,
        coalesce(NEW.cleared_at, NEW.acknowledged_at, NEW.raised_at), NEW.meter_id, NEW.site_id,
        jsonb_build_object('alarm_id', NEW.alarm_id, 'code', NEW.code, 'severity', NEW.severity,
            'gateway', (SELECT name FROM gateway WHERE gateway.gateway_id = NEW.gateway_id),
            'command_id', NEW.command_id, 'detail', NEW.detail, 'reason', NEW.closed_reason));
    RETURN NULL;
END
$$;
CREATE TRIGGER alarm_goes_out AFTER INSERT OR UPDATE ON alarm
    FOR EACH ROW EXECUTE FUNCTION alarm_goes_out();

CREATE FUNCTION night_goes_out() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM tell_outside('night.closed', NEW.closed_at, NULL, NEW.site_id,
        jsonb_build_object('night', NEW.night,
            'site', (SELECT name FROM site WHERE site.site_id = NEW.site_id)));
    RETURN NULL;
END
$$;
CREATE TRIGGER night_goes_out AFTER UPDATE OF closed_at ON night FOR EACH ROW
    WHEN (OLD.closed_at IS NULL AND NEW.closed_at IS NOT NULL) EXECUTE FUNCTION night_goes_out();

-- Who is told, by whom they were let in: their scope is that operator's.
CREATE TABLE webhook (
    webhook_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT a_webhook_has_a_name CHECK (name <> ''),
    url text NOT NULL,
    kinds text[] NOT NULL,  -- 'sale' or 'sale.landed'; empty: every kind
    operator_id integer NOT NULL REFERENCES operator,
    created_at timestamptz NOT NULL,
    disabled_at timestamptz,
    failures integer NOT NULL DEFAULT 0,  -- in a row
    rests_until timestamptz
);
CREATE TABLE webhook_delivery (
    webhook_id integer NOT NULL REFERENCES webhook,
    position bigint NOT NULL REFERENCES outgoing_event (position),
    state text NOT NULL DEFAULT 'waiting' CONSTRAINT a_delivery_is_in_a_known_state
        CHECK (state IN ('waiting', 'delivered', 'dead')),
    tries integer NOT NULL DEFAULT 0,
    first_tried_at timestamptz,
    last_error text NOT NULL DEFAULT '',
    CONSTRAINT an_event_is_delivered_to_a_webhook_once PRIMARY KEY (webhook_id, position)
);
CREATE INDEX deliveries_that_wait ON webhook_delivery (webhook_id, position)
    WHERE state = 'waiting';

-- How an operator wants to hear of alarms.
CREATE TABLE notice_wish (
    operator_id integer PRIMARY KEY REFERENCES operator,
    email text NOT NULL,
    language text NOT NULL CHECK (language IN ('zh', 'en')),
    at_once text NOT NULL CONSTRAINT at_once_from_a_severity_on
        CHECK (at_once IN ('never', 'urgent', 'warning', 'notice')),
    digest boolean NOT NULL,
    version integer NOT NULL DEFAULT 1
);

CREATE TABLE letter (
    letter_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    letter_no bigint GENERATED ALWAYS AS IDENTITY,  -- they go in the order they were written
    road text NOT NULL CONSTRAINT a_letter_goes_by_a_known_road CHECK (road IN ('mail', 'sms')),
    recipient text NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    made_at timestamptz NOT NULL,
    next_try_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CONSTRAINT a_letter_is_in_a_known_state
        CHECK (state IN ('waiting', 'sent', 'dead', 'dropped')),
    tries integer NOT NULL DEFAULT 0,
    last_error text NOT NULL DEFAULT '',
    -- What it is about: the same is written to the same once.
    about text NOT NULL,
    CONSTRAINT a_letter_is_written_once UNIQUE (road, recipient, about)
);
CREATE INDEX letters_that_wait ON letter (next_try_at) WHERE state = 'waiting';
CREATE INDEX letters_to_somebody ON letter (road, recipient, made_at);
