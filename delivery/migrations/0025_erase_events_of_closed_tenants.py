from django.db import migrations

# What happened stays as it was told, except that a tenant which was closed takes what happened to its mail along.
UNTIL_CLOSED = """
CREATE FUNCTION refuse_change_until_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM accounts_tenant WHERE id = OLD.tenant_id AND state = 'closed') THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
DROP TRIGGER append_only ON delivery_event;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON delivery_event
    FOR EACH ROW EXECUTE FUNCTION refuse_change_until_closed();
"""
ALWAYS = """
DROP TRIGGER append_only ON delivery_event;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON delivery_event
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
DROP FUNCTION refuse_change_until_closed();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_notices_and_trust"),
        ("delivery", "0024_statistics_and_search"),
    ]

    operations = [migrations.RunSQL(UNTIL_CLOSED, ALWAYS)]
