-- Money in the platform: whose consumption the head-end bills, and each day's charge.
--
-- A meter in platform mode keeps no account of its own. Its energy is charged to its customer's
-- account day by day, exactly once for each meter and day; what turns out different later is a line
-- more, never a line changed.

-- Which mode a meter is in, since when, and from which reading on it is billed. The newest counts.
CREATE TABLE meter_mode (
    mode_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id integer NOT NULL REFERENCES meter,
    mode text NOT NULL CONSTRAINT money_is_in_the_meter_or_in_the_platform
        CHECK (mode IN ('meter', 'platform')),
    set_at timestamptz NOT NULL,
    set_by integer NOT NULL REFERENCES operator,
    approved_by integer REFERENCES operator,
    reason text NOT NULL CONSTRAINT a_mode_is_changed_for_a_reason CHECK (reason <> ''),
    anchor_at timestamptz,  -- of platform: billing begins with this reading
    anchor_wh bigint,
    anchor_rates jsonb,
    anchor_day date,  -- the day it ends, on the site's calendar: the next one is billed first
    CONSTRAINT billing_begins_with_a_reading CHECK (
        (mode = 'platform') = (anchor_at IS NOT NULL)
        AND (mode = 'platform') = (anchor_wh IS NOT NULL)
        AND (mode = 'platform') = (anchor_day IS NOT NULL))
);
CREATE INDEX modes_of_a_meter ON meter_mode (meter_id, mode_id DESC);
CREATE TRIGGER meter_mode_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON meter_mode
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- The meters in platform mode now, kept by the trigger below: boards and rules join it.
CREATE TABLE platform_meter (
    meter_id integer PRIMARY KEY REFERENCES meter,
    mode_id bigint NOT NULL REFERENCES meter_mode,
    billed_day date NOT NULL,  -- the newest day that is charged
    billed_at timestamptz NOT NULL,  -- the reading it was charged by: how old the balance is
    warned_at timestamptz,  -- since when the customer counts as warned; null: not warned
    doubt text NOT NULL DEFAULT ''  -- why billing does not go on
);
CREATE FUNCTION meter_mode_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.mode = 'meter' THEN
        DELETE FROM platform_meter WHERE meter_id = NEW.meter_id;
    ELSE
        IF EXISTS (SELECT FROM charge WHERE meter_id = NEW.meter_id AND day > NEW.anchor_day) THEN
            RAISE EXCEPTION 'meter %: days after % are charged already', NEW.meter_id,
                NEW.anchor_day USING ERRCODE = 'check_violation',
                CONSTRAINT = 'billing_does_not_begin_again_over_charged_days';
        END IF;
        INSERT INTO platform_meter (meter_id, mode_id, billed_day, billed_at)
        VALUES (NEW.meter_id, NEW.mode_id, NEW.anchor_day, NEW.anchor_at)
        ON CONFLICT (meter_id) DO UPDATE SET mode_id = excluded.mode_id,
            billed_day = excluded.billed_day, billed_at = excluded.billed_at, doubt = '';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER meter_mode_begins AFTER INSERT ON meter_mode
    FOR EACH ROW EXECUTE FUNCTION meter_mode_begins();

-- Income from energy, one account a property.
ALTER TABLE account DROP CONSTRAINT an_account_is_of_a_known_kind;
ALTER TABLE account ADD CONSTRAINT an_account_is_of_a_known_kind
    CHECK (kind IN ('till', 'channel', 'customer', 'meter', 'card', 'fee', 'energy'));
CREATE UNIQUE INDEX a_site_has_one_energy_account ON account (site_id) WHERE kind = 'energy';

ALTER TABLE operation_flow DISABLE TRIGGER operation_flow_is_as_it_is;
INSERT INTO operation_flow VALUES
    ('charge', 'customer', 'energy'), ('charge_back', 'energy', 'customer'),
    ('correction', 'customer', 'energy'), ('correction', 'energy', 'customer');
ALTER TABLE operation_flow ENABLE TRIGGER operation_flow_is_as_it_is;

ALTER TABLE transfer DROP CONSTRAINT a_phase_and_its_operation_go_together;
ALTER TABLE transfer ADD CONSTRAINT a_phase_and_its_operation_go_together CHECK (
    CASE phase
        WHEN 'direct' THEN operation IN ('payment', 'refund', 'move', 'correction', 'fee',
            'charge', 'charge_back')
        WHEN 'void' THEN operation IN ('top_up', 'reversal')
        ELSE operation = 'top_up'
    END
);
-- A day of a large shop is above the limit every day: it follows from readings, nobody asks for it.
ALTER TABLE transfer DROP CONSTRAINT above_50000_fen_a_second_person_approves;
ALTER TABLE transfer ADD CONSTRAINT above_50000_fen_a_second_person_approves CHECK (
    operation IN ('payment', 'top_up', 'fee', 'charge', 'charge_back') OR amount_fen <= 50000
    OR approver_id IS NOT NULL);

CREATE OR REPLACE FUNCTION check_transfer() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    giver account;
    taker account;
BEGIN
    -- Who spends from one account comes one after the other; tills are not waited for.
    SELECT * INTO giver FROM account WHERE account_id = NEW.debit
        AND kind NOT IN ('till', 'channel', 'energy') FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        SELECT * INTO giver FROM account WHERE account_id = NEW.debit;
    END IF;
    SELECT * INTO taker FROM account WHERE account_id = NEW.credit;
    IF NOT EXISTS (
        SELECT FROM operation_flow AS flow WHERE flow.operation = NEW.operation
            AND flow.debit_kind = giver.kind AND flow.credit_kind = taker.kind
    ) THEN
        RAISE 'transfer %: a % never moves money from a % to a %',
            NEW.transfer_id, NEW.operation, giver.kind, taker.kind
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_operation_keeps_to_its_accounts';
    END IF;
    IF giver.closed_at IS NOT NULL OR taker.closed_at IS NOT NULL THEN
        RAISE 'transfer %: the account is closed', NEW.transfer_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_closed_account_moves_no_money';
    END IF;
    -- Tills and channels stand for the world outside: what they gave is what came in. Energy that
    -- was used is owed, whatever the customer has: arrears.
    IF giver.kind NOT IN ('till', 'channel', 'energy') AND taker.kind <> 'energy'
        AND available_fen(NEW.debit) < NEW.amount_fen THEN
        RAISE 'transfer %: account % has less than % fen to spend',
            NEW.transfer_id, NEW.debit, NEW.amount_fen
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_account_is_never_overdrawn';
    END IF;
    RETURN NEW;
END
$$;

-- One line of a meter's bill. `seq` 0 is the day's charge, every other a correction of it.
CREATE TABLE charge (
    charge_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id integer NOT NULL REFERENCES meter,
    day date NOT NULL,
    seq integer NOT NULL,
    kind text NOT NULL CONSTRAINT a_charge_is_of_a_known_kind
        CHECK (kind IN ('reading', 'split', 'correction', 'decided')),
    -- The readings it follows from; of a split day the two around the gap.
    from_at timestamptz,
    from_wh bigint,
    to_at timestamptz,
    to_wh bigint,
    energy_wh bigint NOT NULL,
    used_before_wh bigint NOT NULL,  -- since the yearly reset of the tiers
    version_id integer REFERENCES tariff_version,
    basis text NOT NULL CONSTRAINT a_charge_says_how_rates_were_told_apart
        CHECK (basis IN ('one_price', 'registers', 'spread', 'decided')),
    parts jsonb NOT NULL,  -- [{"what": "peak", "energy_wh": 1200, "price_x4": 8300}]
    fee_fen bigint NOT NULL,
    cost_fen_x5 bigint NOT NULL,  -- exact, 1/100,000 fen
    carry_before_x5 integer NOT NULL,
    carry_after_x5 integer NOT NULL,
    amount_fen bigint NOT NULL,  -- below zero: given back
    transfer_id uuid REFERENCES transfer,
    reason text NOT NULL DEFAULT '',
    booked_at timestamptz NOT NULL,
    CONSTRAINT a_meter_is_charged_once_a_day UNIQUE (meter_id, day, seq),
    CONSTRAINT only_the_first_line_of_a_day_is_no_correction
        CHECK ((seq = 0) = (kind IN ('reading', 'split'))),
    CONSTRAINT what_is_booked_has_its_transfer CHECK ((amount_fen = 0) = (transfer_id IS NULL)),
    -- The rounding rule of domain/charging.py: whole fen now, the fraction carried on.
    CONSTRAINT no_fraction_of_a_fen_is_lost
        CHECK (carry_before_x5 + cost_fen_x5 = amount_fen * 100000 + carry_after_x5),
    CONSTRAINT a_carry_is_less_than_a_fen
        CHECK (carry_after_x5 BETWEEN 0 AND 99999 AND carry_before_x5 BETWEEN 0 AND 99999)
);
CREATE INDEX charges_in_order ON charge (meter_id, charge_id DESC);
CREATE INDEX charges_of_a_transfer ON charge (transfer_id) WHERE transfer_id IS NOT NULL;
CREATE INDEX split_days ON charge (meter_id, day) WHERE kind = 'split';

-- The fraction goes from line to line, so that a line left out or booked twice is refused here.
CREATE FUNCTION charge_follows() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    carried integer := coalesce((SELECT carry_after_x5 FROM charge
        WHERE meter_id = NEW.meter_id ORDER BY charge_id DESC LIMIT 1), 0);
BEGIN
    IF NEW.carry_before_x5 <> carried THEN
        RAISE EXCEPTION 'charge of meter % on %: it does not follow the line before it',
            NEW.meter_id, NEW.day
            USING ERRCODE = 'check_violation', CONSTRAINT = 'a_charge_follows_the_one_before';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER charge_follows BEFORE INSERT ON charge
    FOR EACH ROW EXECUTE FUNCTION charge_follows();
CREATE TRIGGER charge_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON charge
    FOR EACH STATEMENT EXECUTE FUNCTION never_changed();

-- A restore that follows from a payment into the platform says which one.
CREATE INDEX restores_of_payments ON command ((details ->> 'payment_id'))
    WHERE kind = 'restore' AND details ? 'payment_id';
