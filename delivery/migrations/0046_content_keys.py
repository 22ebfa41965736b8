import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import accounts.identifiers


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0011_session_keys_hashed"),
        ("delivery", "0045_parts_make_partitions_by_name"),
    ]

    operations = [
        migrations.CreateModel(
            name="ContentKey",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("sealed_key", models.BinaryField()),
                (
                    "is_current",
                    models.BooleanField(default=True, help_text="seals what is accepted now; others only open"),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.tenant"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("is_current", True)), fields=("tenant",), name="one_current_content_key"
                    )
                ],
            },
        ),
    ]
