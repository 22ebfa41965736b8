"""Session keys become what accounts.sessions stores. Nobody is signed out."""

from django.db import migrations

# The sessions' own table belongs to an application that not every process loads.
_HASH = """
DO $$ BEGIN
    IF to_regclass('django_session') IS NOT NULL THEN
        UPDATE django_session SET session_key = left(encode(sha256(convert_to(session_key, 'UTF8')), 'hex'), 40)
        WHERE length(session_key) = 32;
    END IF;
    UPDATE accounts_signedinbrowser SET session_key = left(encode(sha256(convert_to(session_key, 'UTF8')), 'hex'), 40)
    WHERE length(session_key) = 32;
END $$
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0010_operators_who_act_for_members"),
    ]

    operations = [migrations.RunSQL(_HASH, migrations.RunSQL.noop)]
