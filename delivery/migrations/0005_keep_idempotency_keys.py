import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0004_suppressions"),
    ]

    operations = [
        migrations.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id", "key", "position", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("tenant_id", models.UUIDField()),
                ("key", models.CharField(max_length=255)),
                ("position", models.PositiveSmallIntegerField(help_text="place within the request")),
                ("digest", models.BinaryField(help_text="SHA-256 of the request", max_length=32)),
                ("message_id", models.UUIDField()),
                ("recipients", models.JSONField(help_text="pairs of recipient id and address")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "db_table": "delivery_idempotency_key",
                "indexes": [models.Index(fields=["created_at"], name="idempotency_key_age")],
            },
        ),
    ]
