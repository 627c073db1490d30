-- Readings that boxes sent by themselves and that nothing may be decided by: an instant in the
-- future, a clock that lost its battery, an energy that cannot be. They are kept apart from the
-- readings, so that no bill, no night and no cut has to remember to leave them out.

CREATE TABLE doubtful_reading (
    meter_id integer NOT NULL REFERENCES meter,
    at timestamptz NOT NULL,  -- as the box told it
    received_at timestamptz NOT NULL,
    doubt text NOT NULL CONSTRAINT a_doubtful_reading_says_why
        CHECK (doubt IN ('future', 'broken_clock', 'implausible')),
    detail text NOT NULL,
    quantities jsonb NOT NULL,  -- by the names of reading's columns
    CONSTRAINT a_meter_has_one_doubtful_reading_an_instant PRIMARY KEY (meter_id, at)
);
