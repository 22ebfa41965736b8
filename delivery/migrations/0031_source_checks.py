import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0030_warm_up"),
    ]

    operations = [
        migrations.CreateModel(
            name="SourceCheck",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("checked_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("state", models.CharField(choices=[("ok", "Ok"), ("bad", "Bad"), ("failed", "Failed")], max_length=6)),
                ("results", models.JSONField(default=list)),
                (
                    "source",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="checks", to="delivery.sourceaddress"
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["source", "-checked_at"], name="source_check_latest"),
                    models.Index(fields=["checked_at"], name="source_check_by_age"),
                ],
            },
        ),
    ]
