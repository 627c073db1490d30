-- How complete a night was is counted from its few cells that were not simply read: the rest is all
-- of them less these. This index holds the cells the earlier one held, and the back-filled ones.
CREATE INDEX cells_not_simply_read ON night_cell (night_id) WHERE state <> 'read';
DROP INDEX cells_without_a_reading;
