-- Reports: which meter measures what others measure once more, what is reported by itself, and what
-- became of each time it was.

-- The loss between two is what the one counted and the others did not. A meter has one master.
ALTER TABLE meter ADD COLUMN master_id integer REFERENCES meter
    CONSTRAINT a_meter_is_not_its_own_master CHECK (master_id <> meter_id);
CREATE INDEX meters_under_a_master ON meter (master_id) WHERE master_id IS NOT NULL;

CREATE TABLE report_schedule (
    schedule_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CONSTRAINT a_schedule_has_a_name CHECK (name <> ''),
    kind text NOT NULL,
    grouping text,
    site_id integer REFERENCES site,  -- null: all that its owner may see
    format text NOT NULL CONSTRAINT a_report_file_is_of_a_known_format
        CHECK (format IN ('csv', 'xlsx')),
    language text NOT NULL CONSTRAINT a_report_speaks_a_known_language
        CHECK (language IN ('zh', 'en')),
    cadence text NOT NULL CONSTRAINT a_schedule_has_a_known_cadence
        CHECK (cadence IN ('daily', 'weekly', 'monthly')),
    at_time time NOT NULL,  -- on the wall clock of the books
    folder text NOT NULL DEFAULT '',  -- below the folder of reports; '' and no mail: that itself
    mail_to text[] NOT NULL DEFAULT '{}',
    -- Whose eyes it has: its rows are those this operator may see when it runs.
    owner_id integer NOT NULL REFERENCES operator,
    created_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_by integer REFERENCES operator,
    CONSTRAINT a_schedule_is_ended_by_somebody CHECK ((ended_at IS NULL) = (ended_by IS NULL))
);
CREATE UNIQUE INDEX two_live_schedules_cannot_share_a_name ON report_schedule (name)
    WHERE ended_at IS NULL;
CREATE TRIGGER schedules_are_kept BEFORE DELETE OR TRUNCATE ON report_schedule
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

CREATE TABLE report_run (
    run_id uuid PRIMARY KEY,
    schedule_id integer REFERENCES report_schedule,  -- null: somebody asked for it
    due_at timestamptz,  -- of a schedule
    asked_by integer NOT NULL REFERENCES operator,
    kind text NOT NULL,
    grouping text,
    site_id integer REFERENCES site,
    first_day date NOT NULL,
    last_day date NOT NULL,
    format text NOT NULL,
    language text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CONSTRAINT a_run_is_in_a_known_state
        CHECK (state IN ('waiting', 'running', 'done', 'failed')),
    rows bigint NOT NULL DEFAULT 0,
    file text,  -- below the folder of reports
    sha256 bytea,
    note text NOT NULL DEFAULT '',
    asked_at timestamptz NOT NULL,
    ended_at timestamptz,
    -- A tick that comes twice, or is made up for later, finds the run already there.
    CONSTRAINT what_was_due_is_made_once UNIQUE (schedule_id, due_at),
    CONSTRAINT a_scheduled_run_was_due CHECK ((schedule_id IS NULL) = (due_at IS NULL)),
    CONSTRAINT a_run_goes_forward CHECK (last_day >= first_day),
    CONSTRAINT a_run_that_ended_says_when CHECK ((state IN ('done', 'failed')) = (ended_at IS NOT NULL))
);
CREATE INDEX runs_by_time ON report_run (asked_at DESC);
CREATE INDEX runs_to_make ON report_run (asked_at) WHERE state IN ('waiting', 'running');
