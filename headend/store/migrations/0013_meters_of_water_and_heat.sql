-- A water or heat meter has no energy to tell: its cell has a reading all the same, and what it
-- told stands in the reading.
ALTER TABLE night_cell DROP CONSTRAINT a_cell_has_its_reading_or_its_reason;
ALTER TABLE night_cell ADD CONSTRAINT a_cell_has_its_reading_or_its_reason CHECK (
    CASE WHEN state IN ('read', 'back_filled')
        THEN reason IS NULL AND reading_at IS NOT NULL
        ELSE reason IS NOT NULL
    END
);
