import django.contrib.postgres.indexes
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import accounts.identifiers

# Every event is written down for the counters where it happens, by whoever writes it. Written only: no settlement waits for a row
# that others want too. A statement's events go in one INSERT.
COUNT_EVENTS = """
CREATE FUNCTION event_to_count() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO delivery_event_to_count (message_id, recipient_id, tenant_id, kind, occurred_at, reply_class, attempt)
    SELECT message_id, recipient_id, tenant_id, kind, occurred_at, data->>'class', (data->>'attempt')::smallint FROM added;
    RETURN NULL;
END $$;
CREATE TRIGGER event_to_count AFTER INSERT ON delivery_event
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION event_to_count();
-- What was there before is counted too; the trigger holds writers back until both are committed.
INSERT INTO delivery_event_to_count (message_id, recipient_id, tenant_id, kind, occurred_at, reply_class, attempt)
SELECT message_id, recipient_id, tenant_id, kind, occurred_at, data->>'class', (data->>'attempt')::smallint
FROM delivery_event ORDER BY message_id;
-- Rows come and go within seconds.
ALTER TABLE delivery_event_to_count SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1,
    autovacuum_vacuum_cost_delay = 0);
-- A page adds up thousands of small rows that lie far apart: what it adds stands in the index, where they are neighbours
-- (measured with 1,000,000 recipients: 30 days of statistics in 34 ms instead of 410).
ALTER TABLE delivery_statistic DROP CONSTRAINT delivery_statistic_pkey,
    ADD PRIMARY KEY (tenant_id, dimension, minutes, value, starts_at)
    INCLUDE (accepted, delivered, deferred, bounced, expired, suppressed, cancelled, returned, complained, unsubscribed);
ALTER TABLE delivery_statistic_time DROP CONSTRAINT delivery_statistic_time_pkey,
    ADD PRIMARY KEY (tenant_id, dimension, minutes, value, starts_at, slot) INCLUDE (recipients);
"""
DO_NOT_COUNT_EVENTS = """
DROP TRIGGER event_to_count ON delivery_event;
DROP FUNCTION event_to_count();
"""

# Words of a subject and tags are found through keys that hold the tenant: one tenant's search reads nothing of another's.
# Japanese has no spaces between words, so a subject is known by its pairs of neighbouring characters.
SEARCH_MESSAGES = """
CREATE FUNCTION folded(text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN lower(normalize($1, NFKC));
CREATE FUNCTION subject_keys(tenant uuid, subject text) RETURNS bigint[] LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN (SELECT array_agg(DISTINCT hashtextextended(substr(whole.folded, place, 2), uuid_hash_extended(tenant, 0)))
            FROM (SELECT folded(subject) AS folded) AS whole, generate_series(1, length(whole.folded) - 1) AS place);
CREATE FUNCTION tag_keys(tenant uuid, tags character varying[]) RETURNS bigint[] LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN (SELECT array_agg(hashtextextended(tag, uuid_hash_extended(tenant, 0))) FROM unnest(tags) AS tag);
CREATE INDEX message_by_subject ON delivery_message USING gin (subject_keys(tenant_id, subject))
    WITH (gin_pending_list_limit = 512) WHERE subject <> '';
CREATE INDEX message_by_tag ON delivery_message USING gin (tag_keys(tenant_id, tags))
    WITH (gin_pending_list_limit = 256) WHERE tags <> '{}';
"""
DO_NOT_SEARCH_MESSAGES = """
DROP INDEX message_by_tag;
DROP INDEX message_by_subject;
DROP FUNCTION tag_keys(uuid, character varying[]);
DROP FUNCTION subject_keys(uuid, text);
DROP FUNCTION folded(text);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_suppressed_at_rcpt"),
        ("delivery", "0023_tell_webhooks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="EventToCount",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("message_id", models.UUIDField()),
                ("recipient_id", models.UUIDField()),
                ("tenant_id", models.UUIDField()),
                ("kind", models.CharField(max_length=12)),
                ("occurred_at", models.DateTimeField()),
                ("reply_class", models.CharField(max_length=20, null=True)),
                ("attempt", models.SmallIntegerField(null=True)),
            ],
            options={
                "db_table": "delivery_event_to_count",
            },
        ),
        migrations.CreateModel(
            name="Job",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "person_name",
                    models.CharField(help_text="who asked for it, also when the account is gone", max_length=254),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("export", "Export"),
                            ("retry", "Retry"),
                            ("hold", "Hold"),
                            ("release", "Release"),
                            ("cancel", "Cancel"),
                        ],
                        max_length=7,
                    ),
                ),
                ("file_format", models.CharField(blank=True, help_text="csv or json, for exports", max_length=4)),
                ("wanted", models.JSONField(help_text="the filter, with its period as times")),
                (
                    "query",
                    models.TextField(blank=True, help_text="the same as it stands in the address of the send log"),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting"),
                            ("running", "Running"),
                            ("done", "Done"),
                            ("cancelled", "Cancelled"),
                            ("failed", "Failed"),
                        ],
                        default="waiting",
                        max_length=9,
                    ),
                ),
                (
                    "found",
                    models.IntegerField(
                        help_text="recipients that matched when it was asked for, at most a countable number"
                    ),
                ),
                ("is_found_exact", models.BooleanField(default=True)),
                ("looked_at", models.IntegerField(default=0)),
                ("changed", models.IntegerField(default=0, help_text="recipients changed, or lines written")),
                ("in_hand", models.IntegerField(default=0, help_text="recipients that were being sent at that moment")),
                ("size_bytes", models.BigIntegerField(default=0)),
                ("cursor", models.UUIDField(null=True)),
                ("claimed_until", models.DateTimeField(null=True)),
                ("tries", models.SmallIntegerField(default=0)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("ended_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField(help_text="its file, and then the job itself, are gone")),
            ],
        ),
        migrations.CreateModel(
            name="JobPart",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "job_id", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("job_id", models.UUIDField()),
                ("number", models.IntegerField()),
                ("compressed", models.BinaryField()),
            ],
            options={
                "db_table": "delivery_job_part",
            },
        ),
        migrations.CreateModel(
            name="SavedFilter",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(max_length=80)),
                ("query", models.TextField(help_text="as it stands in the address of the send log")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
        ),
        migrations.CreateModel(
            name="Statistic",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id",
                        "dimension",
                        "minutes",
                        "value",
                        "starts_at",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("tenant_id", models.UUIDField()),
                ("dimension", models.CharField(max_length=10)),
                ("minutes", models.SmallIntegerField(help_text="how long it is: 15 or 60; both hold everything")),
                ("value", models.CharField(max_length=255)),
                ("starts_at", models.DateTimeField()),
                ("accepted", models.IntegerField(default=0)),
                ("delivered", models.IntegerField(default=0)),
                (
                    "deferred",
                    models.IntegerField(default=0, help_text="recipients that were put off for the first time"),
                ),
                ("bounced", models.IntegerField(default=0)),
                ("expired", models.IntegerField(default=0)),
                ("suppressed", models.IntegerField(default=0)),
                ("cancelled", models.IntegerField(default=0)),
                ("returned", models.IntegerField(default=0)),
                ("complained", models.IntegerField(default=0)),
                ("unsubscribed", models.IntegerField(default=0)),
            ],
            options={
                "db_table": "delivery_statistic",
            },
        ),
        migrations.CreateModel(
            name="StatisticClass",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id",
                        "dimension",
                        "minutes",
                        "value",
                        "starts_at",
                        "reply_class",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("tenant_id", models.UUIDField()),
                ("dimension", models.CharField(max_length=10)),
                ("minutes", models.SmallIntegerField(help_text="how long it is: 15 or 60; both hold everything")),
                ("value", models.CharField(max_length=255)),
                ("starts_at", models.DateTimeField()),
                ("reply_class", models.CharField(max_length=20)),
                ("bounced", models.IntegerField(default=0)),
                ("returned", models.IntegerField(default=0)),
            ],
            options={
                "db_table": "delivery_statistic_class",
            },
        ),
        migrations.CreateModel(
            name="StatisticTag",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id", "tag", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("tenant_id", models.UUIDField()),
                ("tag", models.CharField(max_length=100)),
                ("last_used_at", models.DateTimeField()),
            ],
            options={
                "db_table": "delivery_statistic_tag",
            },
        ),
        migrations.CreateModel(
            name="StatisticTime",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id",
                        "dimension",
                        "minutes",
                        "value",
                        "starts_at",
                        "slot",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("tenant_id", models.UUIDField()),
                ("dimension", models.CharField(max_length=10)),
                ("minutes", models.SmallIntegerField(help_text="how long it is: 15 or 60; both hold everything")),
                ("value", models.CharField(max_length=255)),
                ("starts_at", models.DateTimeField()),
                ("slot", models.SmallIntegerField()),
                ("recipients", models.IntegerField(default=0)),
            ],
            options={
                "db_table": "delivery_statistic_time",
            },
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(fields=["tenant", "author", "-id"], name="message_by_author"),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(fields=["tenant", "credential", "-id"], name="message_by_credential"),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(fields=["tenant", "stream", "-id"], name="message_by_stream"),
        ),
        migrations.AddIndex(
            model_name="recipient",
            index=models.Index(fields=["tenant", "group", "-id"], name="recipient_by_group"),
        ),
        migrations.AddIndex(
            model_name="recipient",
            index=models.Index(
                condition=models.Q(("reply_class", ""), _negated=True),
                fields=["tenant", "reply_class", "-id"],
                name="recipient_by_class",
            ),
        ),
        migrations.AddIndex(
            model_name="recipient",
            index=models.Index(
                condition=models.Q(("returned_class", ""), _negated=True),
                fields=["tenant", "returned_class", "-id"],
                name="recipient_by_returned",
            ),
        ),
        migrations.AddIndex(
            model_name="recipient",
            index=models.Index(
                condition=models.Q(("has_ambiguous_attempt", True)),
                fields=["tenant", "-id"],
                name="recipient_ambiguous",
            ),
        ),
        migrations.AddIndex(
            model_name="recipient",
            index=models.Index(
                condition=models.Q(("attempts__gt", 1)), fields=["tenant", "-id"], name="recipient_retried"
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="person",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="tenant",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.tenant"
            ),
        ),
        migrations.AddField(
            model_name="savedfilter",
            name="person",
            field=models.ForeignKey(
                help_text="null: shared",
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            model_name="savedfilter",
            name="tenant",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.tenant"
            ),
        ),
        migrations.AddIndex(
            model_name="statistic",
            index=django.contrib.postgres.indexes.BrinIndex(
                fields=["starts_at"], name="statistic_age", pages_per_range=16
            ),
        ),
        migrations.AddIndex(
            model_name="statisticclass",
            index=django.contrib.postgres.indexes.BrinIndex(
                fields=["starts_at"], name="statistic_class_age", pages_per_range=16
            ),
        ),
        migrations.AddIndex(
            model_name="statistictime",
            index=django.contrib.postgres.indexes.BrinIndex(
                fields=["starts_at"], name="statistic_time_age", pages_per_range=16
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(fields=["tenant", "-id"], name="job_of_tenant"),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("state__in", ["waiting", "running"])), fields=["id"], name="job_open"
            ),
        ),
        migrations.AddIndex(
            model_name="savedfilter",
            index=models.Index(fields=["tenant", "name"], name="saved_filter_of_tenant"),
        ),
        migrations.AddConstraint(
            model_name="savedfilter",
            constraint=models.UniqueConstraint(
                fields=("tenant", "person", "name"), name="saved_filter_once", nulls_distinct=False
            ),
        ),
        migrations.RunSQL(COUNT_EVENTS, DO_NOT_COUNT_EVENTS),
        migrations.RunSQL(SEARCH_MESSAGES, DO_NOT_SEARCH_MESSAGES),
    ]
