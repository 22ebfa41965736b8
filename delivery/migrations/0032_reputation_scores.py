import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0031_source_checks"),
    ]

    operations = [
        migrations.CreateModel(
            name="ReputationScore",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("scored_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("score", models.PositiveSmallIntegerField()),
                ("cap", models.PositiveSmallIntegerField(null=True)),
                ("cap_reason", models.CharField(blank=True, max_length=40)),
                ("terms", models.JSONField(help_text="of delivery.reputation.scoring.Term")),
                ("figures", models.JSONField(help_text="by window in hours, what was met with")),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="delivery.providergroup"
                    ),
                ),
                (
                    "source",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="scores", to="delivery.sourceaddress"
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["source", "group", "-scored_at"], name="reputation_score_latest"),
                    models.Index(fields=["scored_at"], name="reputation_score_by_age"),
                ],
            },
        ),
    ]
