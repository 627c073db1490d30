-- Backups and rehearsals of restoring them; and what holds after books were restored for real.

CREATE TABLE backup_run (
    run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL CONSTRAINT a_run_is_of_a_known_kind CHECK (kind IN ('backup', 'drill')),
    file text NOT NULL,
    began_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    bytes bigint NOT NULL,
    succeeded boolean NOT NULL,
    detail text NOT NULL  -- what was found, or one sentence of what went wrong
);
CREATE INDEX backups_by_time ON backup_run (kind, began_at DESC);

-- The books in this database came from a backup: what happened after it was made is not in them.
CREATE TABLE restored_books (
    restore_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    made_at timestamptz NOT NULL,  -- the moment the books are of
    restored_at timestamptz NOT NULL,
    file text NOT NULL,
    CONSTRAINT a_backup_is_older_than_its_restore CHECK (made_at <= restored_at)
);

-- Until a meter was looked at after a restore nobody knows whether it is ahead of these books. Such
-- a freeze ends by itself when the meter agrees; a person may end it like every other.
ALTER TABLE sales_freeze
    ADD COLUMN restore_id integer REFERENCES restored_books,
    -- What the books had last seen of it.
    ADD COLUMN seen_count bigint,
    ADD COLUMN seen_fen bigint,
    DROP CONSTRAINT a_freeze_is_ended_by_somebody_for_a_reason,
    ADD CONSTRAINT a_freeze_is_ended_by_somebody_for_a_reason CHECK (
        (thawed_at IS NULL) = (thaw_reason IS NULL)
        AND (thawed_at IS NULL) = (count_agreed IS NULL)
        AND (thawed_at IS NOT NULL OR thawed_by IS NULL)
        AND (thawed_at IS NULL OR thawed_by IS NOT NULL OR restore_id IS NOT NULL));
CREATE INDEX freezes_of_a_restore ON sales_freeze (restore_id)
    WHERE restore_id IS NOT NULL AND thawed_at IS NULL;
