"""What a path did in a minute also counts the connections it opened."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("delivery", "0041_reports_know_their_message"),
    ]

    operations = [
        migrations.AlterField(
            model_name="pathuse",
            name="messages",
            field=models.PositiveIntegerField(default=0, help_text="claimed"),
        ),
        migrations.AddField(
            model_name="pathuse",
            name="connections",
            field=models.PositiveIntegerField(help_text="opened, or written down to be opened", null=True),
        ),
    ]
