"""What paths have met with, hour by hour, and how new source addresses are made known to receivers, stage by stage."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from delivery.models.provider import ProviderGroup
from delivery.models.source import SourceAddress


class PathHour(models.Model):
    """What attempts on a path met with in an hour. Written by engines every few seconds; a killed one loses those."""

    pk = models.CompositePrimaryKey("path_id", "hour")
    path_id = models.BigIntegerField()
    hour = models.DateTimeField(help_text="its beginning")
    accepted = models.PositiveIntegerField(default=0, db_default=0)
    throttled = models.PositiveIntegerField(default=0, db_default=0)
    blocked = models.PositiveIntegerField(default=0, db_default=0)
    unknown = models.PositiveIntegerField(default=0, db_default=0)
    content = models.PositiveIntegerField(default=0, db_default=0)
    policy = models.PositiveIntegerField(default=0, db_default=0)
    other = models.PositiveIntegerField(default=0, db_default=0)

    class Meta:
        db_table = "delivery_path_hour"
        indexes: ClassVar = [models.Index(fields=["hour"], name="path_hour_by_hour")]  # forgetting


class WarmUpPlan(models.Model):
    """A source address that is new to every receiver: each provider group it meets is warmed up by itself."""

    source = models.OneToOneField(SourceAddress, on_delete=models.CASCADE, related_name="warm_up_plan")
    schedule = models.CharField(
        max_length=40, blank=True, help_text="of all groups; empty: the one made for each group"
    )
    target = models.PositiveIntegerField(
        null=True, help_text="messages a day to a group that are enough; null: all stages"
    )
    is_running = models.BooleanField(default=True)
    started_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return f"warm-up of {self.source_id}"


class WarmUpState(models.TextChoices):
    RUNNING = "running"
    FINISHED = "finished"  # begins anew after a long rest
    STOPPED = "stopped"  # by hand: counts as warm


class WarmUp(models.Model):
    """One source address towards one provider group: the stage it is at, and since when."""

    source = models.ForeignKey(SourceAddress, on_delete=models.CASCADE, related_name="warm_ups")
    group = models.ForeignKey(ProviderGroup, on_delete=models.PROTECT, related_name="+")
    schedule = models.CharField(max_length=40)
    target = models.PositiveIntegerField(null=True)
    state = models.CharField(max_length=8, choices=WarmUpState.choices, default=WarmUpState.RUNNING)
    stage = models.PositiveSmallIntegerField(default=0, help_text="counted from 0")
    stage_since = models.DateTimeField(default=timezone.now)
    counted_before = models.JSONField(
        default=dict, help_text="of the hour in which the stage began, from before it did"
    )
    started_at = models.DateTimeField(default=timezone.now)
    judged = models.CharField(max_length=200, blank=True, help_text="what the last look found")
    judged_at = models.DateTimeField(null=True, help_text="since when looks have found this")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["source", "group"], name="warm_up_once")]

    def __str__(self) -> str:
        return f"{self.source_id} → {self.group_id}: {self.stage}"


class WarmUpStep(models.Model):
    """One change of a warm-up, with what led to it."""

    warm_up = models.ForeignKey(WarmUp, on_delete=models.CASCADE, related_name="steps")
    at = models.DateTimeField(default=timezone.now)
    from_stage = models.PositiveSmallIntegerField()
    to_stage = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=8)
    why = models.CharField(max_length=200)
    figures = models.JSONField(default=dict)
    actor_name = models.CharField(max_length=254)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["warm_up", "-at"], name="warm_up_step_latest")]

    def __str__(self) -> str:
        return f"{self.warm_up_id}: {self.from_stage} → {self.to_stage}"
