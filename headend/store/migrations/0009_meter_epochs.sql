-- A meter's purchase count lives as long as its registers. An exchange under the same name, or an
-- account that is cleared, begins another life of them: its counts start anew and must not meet
-- those of the life before. A life is called an epoch and begins with an opening that a person
-- accepted; the first one is 0.

ALTER TABLE meter_opening ADD COLUMN epoch integer NOT NULL DEFAULT 0
    CONSTRAINT epochs_count_from_zero CHECK (epoch >= 0);
ALTER TABLE sale ADD COLUMN epoch integer NOT NULL DEFAULT 0;

DROP INDEX a_purchase_count_belongs_to_one_sale;
CREATE UNIQUE INDEX a_purchase_count_belongs_to_one_sale ON sale (meter_id, epoch, purchase_count)
    WHERE state <> 'reversed';

CREATE FUNCTION meter_epoch(meter integer) RETURNS integer STABLE LANGUAGE sql
RETURN (SELECT coalesce(max(epoch), 0) FROM meter_opening WHERE meter_id = meter_epoch.meter);

-- Nobody chooses: a sale belongs to the registers that are there when it is opened.
CREATE FUNCTION sale_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.epoch := meter_epoch(NEW.meter_id);
    RETURN NEW;
END
$$;
CREATE TRIGGER sale_begins BEFORE INSERT ON sale FOR EACH ROW EXECUTE FUNCTION sale_begins();

CREATE OR REPLACE FUNCTION sale_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'open' THEN
        RAISE EXCEPTION 'sale % is %: it is never changed again', OLD.sale_id, OLD.state
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_closed_sale_stays_as_it_is';
    END IF;
    IF (NEW.sale_id, NEW.meter_id, NEW.purchase_count, NEW.amount_fen, NEW.channel, NEW.opened_at,
            NEW.epoch)
        IS DISTINCT FROM
        (OLD.sale_id, OLD.meter_id, OLD.purchase_count, OLD.amount_fen, OLD.channel, OLD.opened_at,
            OLD.epoch)
        OR NEW.copies_left < OLD.copies_left OR NEW.copies_refused < OLD.copies_refused THEN
        RAISE EXCEPTION 'sale %: count and amount are tied for ever', OLD.sale_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_count_is_tied_to_its_amount';
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION opening_begins() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    epoch_now integer := meter_epoch(NEW.meter_id);
BEGIN
    IF NEW.epoch NOT IN (epoch_now, epoch_now + 1) THEN
        RAISE EXCEPTION 'meter %: epoch % does not follow %', NEW.meter_id, NEW.epoch, epoch_now
            USING ERRCODE = 'check_violation', CONSTRAINT = 'epochs_follow_one_another';
    END IF;
    IF NEW.epoch > epoch_now AND NEW.operator_id IS NULL THEN
        RAISE EXCEPTION 'meter %: a person accepts that its registers began anew', NEW.meter_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_epoch_is_begun_by_a_person';
    END IF;
    -- Its count belongs to the registers that are gone; it could land in the new ones as well.
    IF NEW.epoch > epoch_now AND EXISTS (
        SELECT FROM sale WHERE meter_id = NEW.meter_id AND state = 'open'
    ) THEN
        RAISE EXCEPTION 'meter %: a sale is open', NEW.meter_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'no_sale_is_open_as_an_epoch_begins';
    END IF;
    IF NEW.epoch = epoch_now AND NEW.purchase_count < (
        SELECT max(purchase_count) FROM sale WHERE meter_id = NEW.meter_id AND epoch = epoch_now
            AND state IN ('landed', 'burned')
    ) THEN
        RAISE EXCEPTION 'meter %: count % was used before: its registers began anew',
            NEW.meter_id, NEW.purchase_count
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_count_that_fell_begins_an_epoch';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER opening_begins BEFORE INSERT ON meter_opening
    FOR EACH ROW EXECUTE FUNCTION opening_begins();

-- A meter whose number changes is another meter. What its registers look like may even fit the
-- books by chance, so its sales stop until a person has accepted it.
CREATE FUNCTION meter_is_exchanged() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sales_freeze (meter_id, frozen_at, reason)
    SELECT NEW.meter_id, clock_timestamp(), format(
        'meter %s hangs where %s hung: accept what it shows', coalesce(NEW.meter_number, '?'),
        OLD.meter_number)
    WHERE EXISTS (SELECT FROM sale WHERE meter_id = NEW.meter_id)
    ON CONFLICT (meter_id) WHERE thawed_at IS NULL DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER meter_is_exchanged AFTER UPDATE OF meter_number ON meter FOR EACH ROW
    WHEN (OLD.meter_number IS NOT NULL AND NEW.meter_number IS DISTINCT FROM OLD.meter_number)
    EXECUTE FUNCTION meter_is_exchanged();
