-- Nights and their cells: every meter, every night, either has its reading or has its reason.

CREATE TABLE night (
    night_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id integer NOT NULL REFERENCES site,
    night date NOT NULL,  -- the day it ends a reading for, on the site's calendar
    opens_at timestamptz NOT NULL,
    closes_at timestamptz NOT NULL,
    closed_at timestamptz,  -- when it was closed here; null: cells may still be open
    -- A tick that comes twice, or is made up for at start, finds the night already there.
    CONSTRAINT a_site_has_one_night_a_day UNIQUE (site_id, night),
    CONSTRAINT a_night_closes_after_it_opens CHECK (closes_at > opens_at)
);
-- A reading finds its night by its instant.
CREATE INDEX nights_by_opening ON night (site_id, opens_at);

CREATE TABLE night_cell (
    night_id integer NOT NULL REFERENCES night,
    meter_id integer NOT NULL REFERENCES meter,
    state text NOT NULL DEFAULT 'open' CONSTRAINT a_cell_is_in_a_known_state
        CHECK (state IN ('open', 'read', 'back_filled', 'estimated', 'missing')),
    reason text CONSTRAINT a_gap_has_a_known_reason CHECK (reason IN (
        'not_tried', 'head_end_down', 'line_down', 'meter_silent', 'garbled', 'refused',
        'wrong_meter', 'implausible')),
    detail text NOT NULL DEFAULT '',  -- one sentence from the last try
    tries integer NOT NULL DEFAULT 0,
    last_tried_at timestamptz,
    reading_at timestamptz,
    energy_wh bigint,
    CONSTRAINT a_meter_has_one_cell_a_night PRIMARY KEY (night_id, meter_id),
    CONSTRAINT a_cell_has_its_reading_or_its_reason CHECK (
        CASE WHEN state IN ('read', 'back_filled')
            THEN reason IS NULL AND reading_at IS NOT NULL AND energy_wh IS NOT NULL
            ELSE reason IS NOT NULL
        END
    ),
    CONSTRAINT an_estimate_says_its_energy CHECK (state <> 'estimated' OR energy_wh IS NOT NULL)
) WITH (fillfactor = 80);  -- each cell is rewritten at least once
CREATE INDEX cells_of_a_meter ON night_cell (meter_id);
-- The few that are still wanted, among years of those that are not.
CREATE INDEX cells_without_a_reading ON night_cell (night_id)
    WHERE state IN ('open', 'missing', 'estimated');
