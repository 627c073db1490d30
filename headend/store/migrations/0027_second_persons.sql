-- Two rules that NULL went round, and one that compared accounts where it means persons.
--
-- A CHECK that is NULL passes, and so does an IF over NULL in a trigger: what must be there is asked
-- for by IS NOT NULL first.

-- Two accounts of one person are one person, on every table with an approver, not on transfers only.
-- The trigger names the columns: who asks, who approves.
CREATE FUNCTION another_person_approves() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    asks integer := (to_jsonb(NEW) ->> TG_ARGV[0])::integer;
    approves integer := (to_jsonb(NEW) ->> TG_ARGV[1])::integer;
BEGIN
    IF approves IS NOT NULL AND (SELECT count(DISTINCT person) FROM operator
            WHERE operator_id IN (asks, approves)) < 2 THEN
        RAISE '%: two accounts of one person are one person', TG_TABLE_NAME
            USING ERRCODE = 'check_violation', CONSTRAINT = 'an_approver_is_somebody_else';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER another_person_approves BEFORE INSERT ON command FOR EACH ROW
    WHEN (NEW.approved_by IS NOT NULL)
    EXECUTE FUNCTION another_person_approves('ordered_by', 'approved_by');
CREATE TRIGGER another_person_approves BEFORE INSERT ON meter_opening FOR EACH ROW
    WHEN (NEW.approver_id IS NOT NULL)
    EXECUTE FUNCTION another_person_approves('operator_id', 'approver_id');
CREATE TRIGGER another_person_approves BEFORE INSERT ON debt FOR EACH ROW
    WHEN (NEW.approver_id IS NOT NULL)
    EXECUTE FUNCTION another_person_approves('booked_by', 'approver_id');
CREATE TRIGGER another_person_approves BEFORE INSERT OR UPDATE OF approver_id ON account_case
    FOR EACH ROW WHEN (NEW.approver_id IS NOT NULL)
    EXECUTE FUNCTION another_person_approves('operator_id', 'approver_id');
CREATE TRIGGER another_person_approves BEFORE INSERT ON terminal_cap FOR EACH ROW
    EXECUTE FUNCTION another_person_approves('issued_by', 'approved_by');
CREATE TRIGGER another_person_approves BEFORE INSERT ON meter_mode FOR EACH ROW
    WHEN (NEW.approved_by IS NOT NULL)
    EXECUTE FUNCTION another_person_approves('set_by', 'approved_by');

-- A converter without a port was taken: `port BETWEEN` is NULL then.
ALTER TABLE gateway DROP CONSTRAINT a_gateway_says_where_it_is;
ALTER TABLE gateway ADD CONSTRAINT a_gateway_says_where_it_is CHECK (
    CASE
        WHEN kind = 'serial' THEN device IS NOT NULL
        WHEN kind IN ('tcp', 'modbus_tcp')
            THEN host IS NOT NULL AND port IS NOT NULL AND port BETWEEN 1 AND 65535
        ELSE registration IS NOT NULL
    END);

-- A card without credit that names a sale was taken, and counted a copy of that sale: its meter and
-- count are NULL, and so was every comparison with those of the sale.
ALTER TABLE card_issue ADD CONSTRAINT a_card_without_credit_has_no_sale CHECK (
    kind NOT IN ('parameter', 'preset', 'clear', 'check')
    OR (sale_id IS NULL AND purchase_count IS NULL));
