-- Tariffs: what a kilowatt-hour costs, by versions that never change once they are published, the
-- places they hold for, and which meters hold them.

CREATE TABLE tariff (
    tariff_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT two_tariffs_cannot_share_a_name UNIQUE
        CONSTRAINT a_tariff_has_a_name CHECK (name <> ''),
    site_id integer REFERENCES site,  -- null: for every property
    made_by integer NOT NULL REFERENCES operator,
    made_at timestamptz NOT NULL
);

CREATE TABLE tariff_version (
    version_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tariff_id integer NOT NULL REFERENCES tariff,
    number integer NOT NULL,
    state text NOT NULL DEFAULT 'draft' CONSTRAINT a_version_is_a_draft_published_or_dropped
        CHECK (state IN ('draft', 'published', 'dropped')),
    terms jsonb NOT NULL,  -- domain/tariff_records.py
    valid_from date,  -- from the first minute of this day on, on the wall clock of each site
    note text NOT NULL DEFAULT '',
    edited_by integer NOT NULL REFERENCES operator,
    edited_at timestamptz NOT NULL,
    edits integer NOT NULL DEFAULT 1,  -- two who edit at once do not overwrite each other
    published_by integer REFERENCES operator,
    published_at timestamptz,
    needs_second boolean NOT NULL DEFAULT false,
    approved_by integer REFERENCES operator,
    CONSTRAINT a_tariff_counts_its_versions UNIQUE (tariff_id, number),
    CONSTRAINT a_published_version_says_from_when_and_by_whom CHECK (
        (state = 'published') = (published_by IS NOT NULL)
        AND (state = 'published') = (published_at IS NOT NULL)
        AND (state <> 'published' OR valid_from IS NOT NULL)),
    CONSTRAINT a_large_change_is_approved CHECK (
        state <> 'published' OR NOT needs_second OR approved_by IS NOT NULL)
);
CREATE UNIQUE INDEX a_tariff_has_one_draft ON tariff_version (tariff_id) WHERE state = 'draft';
CREATE UNIQUE INDEX two_versions_cannot_begin_on_one_day ON tariff_version (tariff_id, valid_from)
    WHERE state = 'published';

CREATE FUNCTION tariff_version_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'draft' THEN
            RAISE EXCEPTION 'a version begins as a draft'
                USING ERRCODE = 'check_violation', CONSTRAINT = 'a_version_begins_as_a_draft';
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.state <> 'draft' THEN
        RAISE EXCEPTION 'version % of tariff % is %: it is never changed again', OLD.number,
            OLD.tariff_id, OLD.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_published_version_stays';
    END IF;
    IF (NEW.version_id, NEW.tariff_id, NEW.number) IS DISTINCT FROM
        (OLD.version_id, OLD.tariff_id, OLD.number) THEN
        RAISE EXCEPTION 'a version keeps its tariff and its number'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_published_version_stays';
    END IF;
    IF NEW.approved_by IS NOT NULL AND (
        SELECT count(DISTINCT person) FROM operator
        WHERE operator_id IN (NEW.approved_by, NEW.published_by)
    ) < 2 THEN
        RAISE EXCEPTION 'a version is approved by another person than who publishes it'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_approver_is_somebody_else';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER tariff_version_moves BEFORE INSERT OR UPDATE ON tariff_version
    FOR EACH ROW EXECUTE FUNCTION tariff_version_moves();
CREATE TRIGGER tariff_versions_are_kept BEFORE DELETE OR TRUNCATE ON tariff_version
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
CREATE TRIGGER tariff_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON tariff
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- Which tariff holds for a place from a day on. The nearest place counts, there the newest word.
CREATE TABLE tariff_assignment (
    assignment_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tariff_id integer REFERENCES tariff,  -- null: nothing of its own any more
    site_id integer REFERENCES site,
    building_id integer REFERENCES building,
    room_id integer REFERENCES room,
    meter_id integer REFERENCES meter,
    from_day date NOT NULL,
    reason text NOT NULL CONSTRAINT an_assignment_says_why CHECK (reason <> ''),
    assigned_by integer NOT NULL REFERENCES operator,
    assigned_at timestamptz NOT NULL,
    CONSTRAINT a_tariff_is_assigned_to_one_place
        CHECK (num_nonnulls(site_id, building_id, room_id, meter_id) = 1)
);
CREATE INDEX assignments_of_a_site ON tariff_assignment (site_id) WHERE site_id IS NOT NULL;
CREATE INDEX assignments_of_a_building ON tariff_assignment (building_id)
    WHERE building_id IS NOT NULL;
CREATE INDEX assignments_of_a_room ON tariff_assignment (room_id) WHERE room_id IS NOT NULL;
CREATE INDEX assignments_of_a_meter ON tariff_assignment (meter_id) WHERE meter_id IS NOT NULL;
CREATE TRIGGER tariff_assignment_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE
    ON tariff_assignment FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- One version on its way into the meters. Each meter gets its settings one after the other, each an
-- order of its own that is read back; it holds the version when the last one was proved.
CREATE TABLE tariff_push (
    push_id uuid PRIMARY KEY,
    version_id integer NOT NULL REFERENCES tariff_version
        CONSTRAINT a_version_is_pushed_by_one_push UNIQUE,
    state text NOT NULL DEFAULT 'waits' CONSTRAINT a_push_is_in_a_known_state
        CHECK (state IN ('waits', 'runs', 'stopped', 'done')),
    halt_reason text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL,
    changed_by integer REFERENCES operator,  -- null: by itself
    CONSTRAINT a_stop_says_why CHECK (state <> 'stopped' OR halt_reason <> '')
);
CREATE INDEX pushes_at_work ON tariff_push (push_id) WHERE state IN ('waits', 'runs');

CREATE TABLE tariff_push_item (
    push_id uuid NOT NULL REFERENCES tariff_push,
    meter_id integer NOT NULL REFERENCES meter,
    state text NOT NULL CONSTRAINT an_item_of_a_push_is_in_a_known_state
        CHECK (state IN ('waiting', 'ordered', 'holds', 'unknown', 'refused', 'cannot')),
    -- Day tables and date plan of a cabinet belong to all its circuits: one of them carries them.
    leader_id integer REFERENCES meter,
    settings jsonb NOT NULL,  -- what is written, in this order (protocols/settings.py)
    step integer NOT NULL DEFAULT 0,  -- how many of them were proved
    tries integer NOT NULL DEFAULT 0,
    command_id uuid CONSTRAINT a_command_is_of_one_item_of_a_push UNIQUE REFERENCES command,
    detail text NOT NULL DEFAULT '',
    changed_at timestamptz NOT NULL,
    CONSTRAINT a_meter_is_pushed_to_once PRIMARY KEY (push_id, meter_id),
    CONSTRAINT what_was_ordered_has_its_command CHECK (
        state NOT IN ('ordered', 'unknown') OR command_id IS NOT NULL)
) WITH (fillfactor = 80);
CREATE INDEX push_items_of_a_meter ON tariff_push_item (meter_id);
CREATE INDEX push_items_by_state ON tariff_push_item (push_id, state);

-- Whoever pushes hears of changes at once.
CREATE FUNCTION tariffs_tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NOTIFY tariffs;
    RETURN NULL;
END
$$;
CREATE TRIGGER tariff_push_tells AFTER INSERT OR UPDATE ON tariff_push
    FOR EACH STATEMENT EXECUTE FUNCTION tariffs_tell();
CREATE TRIGGER tariff_assignment_tells AFTER INSERT ON tariff_assignment
    FOR EACH STATEMENT EXECUTE FUNCTION tariffs_tell();

-- What was proved stays proved. A meter that went to another tariff and came back is told anew.
CREATE FUNCTION tariff_push_item_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state IN ('holds', 'cannot') AND NEW.state = 'waiting' AND NEW.step = 0 AND EXISTS (
        SELECT FROM tariff_push_item AS other WHERE other.meter_id = OLD.meter_id
            AND other.push_id <> OLD.push_id AND other.changed_at > OLD.changed_at
            AND other.command_id IS NOT NULL
    ) THEN
        RETURN NEW;
    END IF;
    IF OLD.state IN ('holds', 'cannot') OR NEW.step < OLD.step
        OR (NEW.push_id, NEW.meter_id, NEW.settings, NEW.leader_id)
        IS DISTINCT FROM (OLD.push_id, OLD.meter_id, OLD.settings, OLD.leader_id) THEN
        RAISE EXCEPTION 'meter % of push %: what was proved stays', OLD.meter_id, OLD.push_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'what_a_meter_holds_stays';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER tariff_push_item_moves BEFORE UPDATE ON tariff_push_item
    FOR EACH ROW EXECUTE FUNCTION tariff_push_item_moves();
CREATE TRIGGER tariff_push_items_are_kept BEFORE DELETE OR TRUNCATE ON tariff_push_item
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();
