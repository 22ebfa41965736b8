"""A source address can be drained: greylisted mail comes back from it, and nothing new leaves."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0043_path_changes"),
    ]

    operations = [
        migrations.AlterField(
            model_name="sourceaddress",
            name="state",
            field=models.CharField(
                choices=[
                    ("active", "Active"),
                    ("draining", "Draining"),
                    ("paused", "Paused"),
                    ("unusable", "Unusable"),
                    ("retired", "Retired"),
                ],
                default="active",
                max_length=8,
            ),
        ),
    ]
