import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0025_erase_events_of_closed_tenants"),
    ]

    operations = [
        migrations.CreateModel(
            name="PathHour",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "path_id", "hour", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("path_id", models.BigIntegerField()),
                ("hour", models.DateTimeField(help_text="its beginning")),
                ("accepted", models.PositiveIntegerField(db_default=0, default=0)),
                ("throttled", models.PositiveIntegerField(db_default=0, default=0)),
                ("blocked", models.PositiveIntegerField(db_default=0, default=0)),
                ("unknown", models.PositiveIntegerField(db_default=0, default=0)),
                ("content", models.PositiveIntegerField(db_default=0, default=0)),
                ("policy", models.PositiveIntegerField(db_default=0, default=0)),
                ("other", models.PositiveIntegerField(db_default=0, default=0)),
            ],
            options={
                "db_table": "delivery_path_hour",
                "indexes": [models.Index(fields=["hour"], name="path_hour_by_hour")],
            },
        ),
        migrations.CreateModel(
            name="WarmUp",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("schedule", models.CharField(max_length=40)),
                ("target", models.PositiveIntegerField(null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[("running", "Running"), ("finished", "Finished"), ("stopped", "Stopped")],
                        default="running",
                        max_length=8,
                    ),
                ),
                ("stage", models.PositiveSmallIntegerField(default=0, help_text="counted from 0")),
                ("stage_since", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "counted_before",
                    models.JSONField(
                        default=dict, help_text="of the hour in which the stage began, from before it did"
                    ),
                ),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("judged", models.CharField(blank=True, help_text="what the last look found", max_length=200)),
                ("judged_at", models.DateTimeField(help_text="since when looks have found this", null=True)),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="delivery.providergroup"
                    ),
                ),
                (
                    "source",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="warm_ups",
                        to="delivery.sourceaddress",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="WarmUpPlan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "schedule",
                    models.CharField(
                        blank=True, help_text="of all groups; empty: the one made for each group", max_length=40
                    ),
                ),
                (
                    "target",
                    models.PositiveIntegerField(
                        help_text="messages a day to a group that are enough; null: all stages", null=True
                    ),
                ),
                ("is_running", models.BooleanField(default=True)),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "source",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="warm_up_plan",
                        to="delivery.sourceaddress",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="WarmUpStep",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(default=django.utils.timezone.now)),
                ("from_stage", models.PositiveSmallIntegerField()),
                ("to_stage", models.PositiveSmallIntegerField()),
                ("state", models.CharField(max_length=8)),
                ("why", models.CharField(max_length=200)),
                ("figures", models.JSONField(default=dict)),
                ("actor_name", models.CharField(max_length=254)),
                (
                    "warm_up",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="steps", to="delivery.warmup"
                    ),
                ),
            ],
        ),
        migrations.AddConstraint(
            model_name="warmup",
            constraint=models.UniqueConstraint(fields=("source", "group"), name="warm_up_once"),
        ),
        migrations.AddIndex(
            model_name="warmupstep",
            index=models.Index(fields=["warm_up", "-at"], name="warm_up_step_latest"),
        ),
    ]
