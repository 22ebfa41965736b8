"""A quota is kept by the statement that stores mail: to count more than there may be is an error of its own."""

from django.db import migrations

# `most` is NULL where there is no limit. The error carries the owner and the period for whoever asked.
FORWARDS = """
CREATE FUNCTION within_quota(owner_id uuid, period text, used bigint, more bigint, most bigint) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF used + more > most THEN
        RAISE EXCEPTION 'over quota' USING ERRCODE = 'RW001', DETAIL = owner_id, HINT = period;
    END IF;
    RETURN used + more;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0011_session_keys_hashed"),
    ]

    operations = [
        migrations.RunSQL(FORWARDS, "DROP FUNCTION within_quota(uuid, text, bigint, bigint, bigint)"),
    ]
