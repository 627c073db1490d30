-- What the meters said. One row is one look at one meter: wide, integers only, the unit last in
-- each column's name. Columns are protocols/reading.py's Quantity values; settings that change by
-- hand (prices, ratios, alarm amounts) go to `extra` under the same names, rarely read and rarely
-- different.
--
-- bigint wherever a 32-bit register times a ratio may land, integer where it cannot.

CREATE TABLE reading (
    meter_id integer NOT NULL,
    at timestamptz NOT NULL,  -- the instant the values are true for
    received_at timestamptz NOT NULL,  -- their arrival here
    origin text NOT NULL CONSTRAINT a_reading_says_where_it_came_from
        CHECK (origin IN ('polled', 'pushed', 'frozen', 'card')),
    energy_wh bigint,
    energy_sharp_wh bigint,
    energy_peak_wh bigint,
    energy_flat_wh bigint,
    energy_valley_wh bigint,
    energy_deep_valley_wh bigint,
    energy_export_wh bigint,
    reactive_energy_varh bigint,
    remaining_credit_fen bigint,
    total_purchased_fen bigint,
    purchase_count bigint,
    current_l1_ma bigint,
    current_l2_ma bigint,
    current_l3_ma bigint,
    power_w bigint,
    power_l1_w bigint,
    power_l2_w bigint,
    power_l3_w bigint,
    reactive_power_var bigint,
    meter_clock_s bigint,
    voltage_l1_dv integer,
    voltage_l2_dv integer,
    voltage_l3_dv integer,
    power_factor_permille integer,
    frequency_chz integer,
    relay_closed_bits integer,
    alarm_bits integer,
    control_bits integer,
    extra jsonb,
    -- The same look stored twice is one row: a repeat is harmless, however it came about.
    CONSTRAINT a_meter_has_one_reading_an_instant PRIMARY KEY (meter_id, at)
) PARTITION BY RANGE (at);

-- A reading of any instant finds a place: a meter whose dial stands in 2000 is not refused.
CREATE TABLE reading_other PARTITION OF reading DEFAULT;

-- Rows arrive in the order of time, so a few pages of summary replace a large index.
CREATE INDEX readings_by_time ON reading USING brin (at) WITH (pages_per_range = 32);

-- The last look at each meter, kept by the statement that stores readings: the board shows ten
-- thousand meters from here and never searches. Room on each page, because every night rewrites it.
-- Only what boards and rules look at: a second row as wide as the reading would cost as much again
-- (bench/readings.py). The whole reading is one index lookup away, by (meter_id, at).
CREATE TABLE meter_last (
    meter_id integer NOT NULL CONSTRAINT a_meter_has_one_last_reading PRIMARY KEY,
    at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    origin text NOT NULL,
    energy_wh bigint,
    remaining_credit_fen bigint,
    total_purchased_fen bigint,
    purchase_count bigint,
    power_w bigint,
    relay_closed_bits integer,
    alarm_bits integer,
    control_bits integer
) WITH (fillfactor = 60);

-- Makes the partition of a month, UTC. Rows that fell into reading_other meanwhile move along.
CREATE FUNCTION make_reading_month(month date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    begins timestamptz := date_trunc('month', month::timestamp) AT TIME ZONE 'UTC';
    ends timestamptz := (date_trunc('month', month::timestamp) + interval '1 month')
        AT TIME ZONE 'UTC';
    name text := 'reading_' || to_char(month, 'YYYY_MM');
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE reading INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
    EXECUTE format(
        'WITH moved AS (DELETE FROM reading_other WHERE at >= %L AND at < %L RETURNING *) '
        'INSERT INTO %I SELECT * FROM moved', begins, ends, name);
    EXECUTE format(
        'ALTER TABLE reading ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, begins, ends);
    RETURN true;
END
$$;

-- By the hour, in UTC. On TimescaleDB a continuous aggregate takes this name.
CREATE VIEW reading_hour AS
SELECT
    meter_id,
    date_trunc('hour', at, 'UTC') AS hour,
    min(energy_wh) AS energy_wh_min,
    max(energy_wh) AS energy_wh_max,
    max(power_w) AS power_w_max,
    min(remaining_credit_fen) AS remaining_credit_fen_min,
    count(*) AS readings
FROM reading
GROUP BY meter_id, date_trunc('hour', at, 'UTC');

-- By the site's own day, straight from the readings: a zone may be off by half an hour, and a day
-- put together from UTC hours would then begin at the wrong reading.
CREATE VIEW reading_day AS
SELECT
    reading.meter_id,
    (reading.at AT TIME ZONE site.time_zone)::date AS day,
    min(energy_wh) AS energy_wh_min,
    max(energy_wh) AS energy_wh_max,
    max(power_w) AS power_w_max,
    min(remaining_credit_fen) AS remaining_credit_fen_min,
    count(*) AS readings
FROM reading JOIN meter USING (meter_id) JOIN site USING (site_id)
GROUP BY reading.meter_id, (reading.at AT TIME ZONE site.time_zone)::date;

-- How far a meter's dial is ahead of the site's wall clock, each time it was looked at.
CREATE TABLE meter_clock (
    meter_id integer NOT NULL REFERENCES meter,
    checked_at timestamptz NOT NULL,
    drift_s integer NOT NULL,
    meter_clock_s bigint,  -- what the dial showed: seconds since 2000-01-01 00:00 on the dial
    CONSTRAINT a_clock_is_checked_once_an_instant PRIMARY KEY (meter_id, checked_at)
);
