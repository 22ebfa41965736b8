"""What a mail may ask of its way. A constant default: the partitions are not rewritten."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies: ClassVar = [("delivery", "0007_standby_pools")]

    operations: ClassVar = [
        migrations.AddField(
            model_name="message",
            name="tls",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="what it asks of its way: required or verified",
                max_length=8,
            ),
        ),
    ]
