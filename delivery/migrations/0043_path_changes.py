"""Why the pace of a path was changed and when."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0042_path_use_connections"),
    ]

    operations = [
        migrations.CreateModel(
            name="PathChange",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("share_before", models.FloatField(help_text="of full speed")),
                ("share_after", models.FloatField()),
                ("suspended_until", models.DateTimeField(help_text="where it was suspended by it", null=True)),
                ("reason", models.CharField(blank=True, help_text="the rule, or who did it", max_length=200)),
                (
                    "reply",
                    models.CharField(blank=True, help_text="what the receiver said, without addresses", max_length=500),
                ),
                (
                    "path",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="delivery.path",
                    ),
                ),
            ],
            options={
                "db_table": "delivery_path_change",
                "indexes": [
                    models.Index(fields=["path", "-id"], name="path_change_latest"),
                    models.Index(fields=["at"], name="path_change_by_age"),
                ],
            },
        ),
    ]
