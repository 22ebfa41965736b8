import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0001_journey_of_a_message"),
    ]

    operations = [
        migrations.CreateModel(
            name="MtaStsPolicy",
            fields=[
                ("domain", models.CharField(help_text="A-label", max_length=255, primary_key=True, serialize=False)),
                ("policy_id", models.CharField(help_text="as announced in the TXT record", max_length=32)),
                ("mode", models.CharField(max_length=7)),
                (
                    "mx",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=255), help_text="patterns of MX hosts", size=None
                    ),
                ),
                ("fetched_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField()),
            ],
            options={
                "db_table": "delivery_mta_sts_policy",
                "indexes": [models.Index(fields=["expires_at"], name="mta_sts_policy_expires")],
            },
        ),
    ]
