"""Housekeeping makes and drops day partitions although it owns no table: by functions that can do nothing else.

They run with the rights of whoever owns the tables (SECURITY DEFINER), take a table's name only from a list and a day only
as a date, and look names up in the schema of the tables alone. Nobody may call them who was not given the right
(relayweb.processes.database_roles).
"""

from django.db import migrations

MAKE_AND_DROP = """
CREATE FUNCTION make_day_partition(parent text, day date) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    name text := format('%s_p%s', parent, to_char(day, 'YYYYMMDD'));
    -- Keys are UUIDs of version 7: their first 48 bits are milliseconds.
    lower_bound uuid := rpad(lpad(to_hex(extract(epoch FROM day)::bigint * 1000), 12, '0'), 32, '0')::uuid;
    upper_bound uuid := rpad(lpad(to_hex(extract(epoch FROM day + 1)::bigint * 1000), 12, '0'), 32, '0')::uuid;
BEGIN
    IF parent !~ '^delivery_(message|recipient|attempt|event|webhookcall|content_r[0-9]{1,4})$' THEN
        RAISE EXCEPTION '% has no partitions of days', parent USING ERRCODE = 'insufficient_privilege';
    END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', name, parent, lower_bound, upper_bound);
    RETURN name;
END $$;

CREATE FUNCTION drop_day_partition(name text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF name !~ '^delivery_(webhookcall|content_r[0-9]{1,4})_p[0-9]{8}$' THEN
        RAISE EXCEPTION '% is no day that may go', name USING ERRCODE = 'insufficient_privilege';
    END IF;
    EXECUTE format('DROP TABLE %I', name);
END $$;

REVOKE EXECUTE ON FUNCTION make_day_partition(text, date), drop_day_partition(text) FROM PUBLIC;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION make_day_partition(text, date) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION drop_day_partition(text) SET search_path = %I, pg_temp', current_schema());
END $$;
"""
BY_THEIR_OWNER_ALONE = """
DROP FUNCTION make_day_partition(text, date);
DROP FUNCTION drop_day_partition(text);
"""


class Migration(migrations.Migration):
    dependencies = [("delivery", "0044_drain_a_source")]

    operations = [migrations.RunSQL(MAKE_AND_DROP, BY_THEIR_OWNER_ALONE)]
