import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import accounts.identifiers
from delivery.migrations._partitioned import CreatePartitionedModel

# Rows of these tables change or go at every attempt: room for updates in place, and a vacuum that does not wait for a
# share of the table but for a fixed number of dead rows.
HOT_TABLES = """
ALTER TABLE delivery_queue_entry SET (
    fillfactor = 60, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0.1, autovacuum_analyze_threshold = 5000,
    autovacuum_vacuum_cost_delay = 0);
ALTER TABLE delivery_lane SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
ALTER TABLE delivery_path SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
ALTER TABLE delivery_worker SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);
"""

# What happened stays as it was told; old events go with their partition.
APPEND_ONLY = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON delivery_event
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""

REJECTION_ONCE_A_MINUTE = """
CREATE UNIQUE INDEX rejection_once_a_minute ON delivery_rejectionentry (
    tenant_id, COALESCE(credential_id, '00000000-0000-0000-0000-000000000000'::uuid), minute, reason, author_domain,
    COALESCE(peer_address, '::'::inet));
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("accounts", "0001_tenants_people_credentials"),
    ]

    operations = [
        CreatePartitionedModel(
            partition_by="LIST (retention_days)",
            name="Content",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "message_id", "retention_days", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("message_id", models.UUIDField()),
                ("retention_days", models.PositiveSmallIntegerField()),
                ("compressed", models.BinaryField()),
            ],
        ),
        migrations.CreateModel(
            name="Node",
            fields=[
                ("name", models.CharField(max_length=63, primary_key=True, serialize=False)),
                ("is_draining", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
        ),
        migrations.CreateModel(
            name="ProviderGroup",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=255, unique=True)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("unrouted", "Unrouted"),
                            ("unreachable", "Unreachable"),
                            ("provider", "Provider"),
                            ("site", "Site"),
                            ("smarthost", "Smarthost"),
                        ],
                        max_length=11,
                    ),
                ),
                ("title", models.CharField(help_text="what people read", max_length=255)),
                ("limits", models.JSONField(default=dict, help_text="overrides of the shaping defaults")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        models.F("kind"),
                        condition=models.Q(("kind__in", ["unrouted", "unreachable"])),
                        name="provider_group_one_unrouted_one_unreachable",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="DomainRoute",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("domain", models.CharField(max_length=255, unique=True)),
                (
                    "mx_hosts",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=255), default=list, size=None
                    ),
                ),
                ("resolved_at", models.DateTimeField(null=True)),
                ("expires_at", models.DateTimeField(null=True)),
                ("resolving_until", models.DateTimeField(help_text="a worker is looking it up until then", null=True)),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="delivery.providergroup"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="QueueEntry",
            fields=[
                ("recipient_id", models.UUIDField(primary_key=True, serialize=False)),
                ("message_id", models.UUIDField()),
                ("tenant_id", models.UUIDField()),
                ("credential_id", models.UUIDField(null=True)),
                ("lane_id", models.BigIntegerField()),
                ("domain_route_id", models.BigIntegerField()),
                ("accepted_at", models.DateTimeField()),
                ("next_attempt_at", models.DateTimeField()),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("losses", models.PositiveSmallIntegerField(default=0, help_text="owners that died with it")),
                ("held_reason", models.CharField(max_length=60, null=True)),
                ("path_id", models.BigIntegerField(null=True)),
                ("fence", models.BigIntegerField(null=True)),
                ("claimed_at", models.DateTimeField(null=True)),
                ("attempt_id", models.UUIDField(null=True)),
                ("dot_sent_at", models.DateTimeField(null=True)),
                ("dot_host", models.CharField(max_length=255, null=True)),
            ],
            options={
                "db_table": "delivery_queue_entry",
                "indexes": [
                    models.Index(
                        condition=models.Q(("held_reason__isnull", True), ("losses", 0), ("path_id__isnull", True)),
                        fields=["lane_id", "next_attempt_at"],
                        name="queue_entry_waiting",
                    ),
                    models.Index(
                        condition=models.Q(("held_reason__isnull", True), ("losses__gt", 0), ("path_id__isnull", True)),
                        fields=["lane_id", "next_attempt_at"],
                        name="queue_entry_suspect",
                    ),
                    models.Index(
                        condition=models.Q(("path_id__isnull", False)), fields=["path_id"], name="queue_entry_claimed"
                    ),
                    models.Index(fields=["domain_route_id"], name="queue_entry_of_domain"),
                    models.Index(fields=["message_id"], name="queue_entry_of_message"),
                    models.Index(fields=["tenant_id"], name="queue_entry_of_tenant"),
                ],
            },
        ),
        migrations.CreateModel(
            name="SendingDomain",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.CharField(help_text="A-label, lower case", max_length=255)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("verified", "Verified"),
                            ("lapsed", "Lapsed"),
                            ("removed", "Removed"),
                        ],
                        default="pending",
                        max_length=8,
                    ),
                ),
                ("ownership_token", models.CharField(max_length=64)),
                (
                    "is_assumed",
                    models.BooleanField(default=False, help_text="verified by an operator's word, never checked"),
                ),
                ("covers_subdomains", models.BooleanField(default=True)),
                ("signs", models.BooleanField(default=True, help_text="DKIM signing is on")),
                (
                    "keeps_reverse_path",
                    models.BooleanField(default=False, help_text="off: bounces come to us and are managed here"),
                ),
                (
                    "bounce_host",
                    models.CharField(
                        blank=True, help_text="own bounce domain, once its CNAME was seen", max_length=255
                    ),
                ),
                ("verified_at", models.DateTimeField(blank=True, null=True)),
                ("checked_at", models.DateTimeField(blank=True, null=True)),
                ("next_check_at", models.DateTimeField(blank=True, null=True)),
                ("failing_since", models.DateTimeField(blank=True, null=True)),
                ("findings", models.JSONField(default=list, help_text="what the last check saw, record by record")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("removed_at", models.DateTimeField(blank=True, null=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="domains", to="accounts.tenant"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="DkimKey",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("selector", models.CharField(max_length=63)),
                (
                    "sealed_private_key",
                    models.BinaryField(help_text="PEM, sealed by accounts.sealing"),
                ),
                ("public_record", models.TextField(help_text="the TXT value: v=DKIM1; k=rsa; p=…")),
                (
                    "state",
                    models.CharField(
                        choices=[("waiting", "Waiting"), ("signing", "Signing"), ("retired", "Retired")],
                        default="waiting",
                        max_length=7,
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("seen_at", models.DateTimeField(blank=True, null=True)),
                ("retired_at", models.DateTimeField(blank=True, null=True)),
                (
                    "domain",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="dkim_keys",
                        to="delivery.sendingdomain",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="SourceAddress",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("address", models.GenericIPAddressField(blank=True, null=True, unique=True)),
                ("ehlo_name", models.CharField(max_length=255)),
                ("weight", models.PositiveSmallIntegerField(default=1)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("active", "Active"),
                            ("paused", "Paused"),
                            ("unusable", "Unusable"),
                            ("retired", "Retired"),
                        ],
                        default="active",
                        max_length=8,
                    ),
                ),
                ("state_reason", models.CharField(blank=True, max_length=500)),
                ("state_since", models.DateTimeField(default=django.utils.timezone.now)),
                ("note", models.CharField(blank=True, max_length=500)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "node",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="sources", to="delivery.node"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Path",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("owner", models.CharField(blank=True, help_text="slot of the worker that drives it", max_length=80)),
                ("owner_incarnation", models.UUIDField(null=True)),
                ("fence", models.BigIntegerField(default=0, help_text="raised with each change of owner")),
                ("leased_until", models.DateTimeField(null=True)),
                ("pace_per_second", models.FloatField(help_text="null: not slowed", null=True)),
                ("pace_changed_at", models.DateTimeField(null=True)),
                ("pace_reason", models.CharField(blank=True, max_length=200)),
                ("suspended_until", models.DateTimeField(null=True)),
                ("suspended_reason", models.CharField(blank=True, max_length=200)),
                ("budget_day", models.DateField(null=True)),
                (
                    "budget_reserved",
                    models.PositiveIntegerField(
                        default=0, help_text="of the day's volume, reserved before it is spent"
                    ),
                ),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="delivery.providergroup"
                    ),
                ),
                (
                    "source",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="delivery.sourceaddress"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="SourcePool",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.SlugField(max_length=48, unique=True)),
                (
                    "kind",
                    models.CharField(
                        choices=[("shared", "Shared"), ("dedicated", "Dedicated"), ("quarantine", "Quarantine")],
                        default="shared",
                        max_length=10,
                    ),
                ),
                ("note", models.CharField(blank=True, max_length=500)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="sourceaddress",
            name="pool",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="sources", to="delivery.sourcepool"
            ),
        ),
        migrations.CreateModel(
            name="Stream",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", models.SlugField(max_length=48)),
                (
                    "kind",
                    models.CharField(
                        choices=[("transactional", "Transactional"), ("bulk", "Bulk")],
                        default="transactional",
                        max_length=13,
                    ),
                ),
                (
                    "retry_delays_s",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.PositiveIntegerField(), blank=True, null=True, size=None
                    ),
                ),
                ("lifetime_s", models.PositiveIntegerField(blank=True, null=True)),
                ("is_default", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "pool",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="delivery.sourcepool",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="streams", to="accounts.tenant"
                    ),
                ),
            ],
        ),
        CreatePartitionedModel(
            partition_by="RANGE (id)",
            name="Message",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("domain_id", models.UUIDField(help_text="the sending domain that signs it", null=True)),
                ("accepted_at", models.DateTimeField()),
                ("expires_at", models.DateTimeField(help_text="end of the queue lifetime")),
                ("reverse_path", models.CharField(help_text="empty: the null reverse-path", max_length=320)),
                ("author", models.CharField(max_length=320)),
                ("author_domain", models.CharField(max_length=255)),
                ("subject", models.CharField(help_text="decoded, for display and search only", max_length=998)),
                ("header_message_id", models.CharField(max_length=998)),
                ("size_bytes", models.BigIntegerField()),
                ("recipient_count", models.PositiveIntegerField()),
                ("body_type", models.CharField(default="7BIT", max_length=8)),
                ("needs_smtputf8", models.BooleanField(default=False)),
                ("dsn_ret", models.CharField(blank=True, max_length=4)),
                ("dsn_envid", models.CharField(blank=True, max_length=100)),
                ("protocol", models.CharField(max_length=8)),
                ("peer_address", models.GenericIPAddressField(null=True)),
                ("peer_ehlo", models.CharField(blank=True, max_length=255)),
                ("is_test", models.BooleanField(default=False)),
                (
                    "tags",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=100), default=list, size=None
                    ),
                ),
                ("metadata", models.JSONField(default=dict)),
                ("retention_days", models.PositiveSmallIntegerField(help_text="the retention class of its content")),
                (
                    "credential",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.credential",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
                (
                    "stream",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="delivery.stream",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Lane",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("next_due_at", models.DateTimeField(help_text="no entry is due before; null: none waits", null=True)),
                ("suspended_until", models.DateTimeField(null=True)),
                ("suspended_reason", models.CharField(blank=True, max_length=200)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.tenant"
                    ),
                ),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="delivery.providergroup"
                    ),
                ),
                (
                    "pinned_source",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="delivery.sourceaddress",
                    ),
                ),
                (
                    "pool",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="delivery.sourcepool"
                    ),
                ),
                (
                    "stream",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="delivery.stream"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("slot", models.CharField(help_text="node/worker-1", max_length=80, primary_key=True, serialize=False)),
                ("incarnation", models.UUIDField()),
                ("part", models.CharField(max_length=20)),
                ("pid", models.PositiveIntegerField()),
                ("version", models.CharField(max_length=40)),
                ("started_at", models.DateTimeField(default=django.utils.timezone.now)),
                ("heartbeat_at", models.DateTimeField()),
                ("is_draining", models.BooleanField(default=False)),
                ("figures", models.JSONField(default=dict, help_text="what it does right now, for the console")),
                (
                    "node",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="workers", to="delivery.node"
                    ),
                ),
            ],
        ),
        CreatePartitionedModel(
            partition_by="RANGE (message_id)",
            name="Attempt",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "message_id", "id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("id", models.UUIDField(editable=False)),
                ("message_id", models.UUIDField()),
                ("recipient_id", models.UUIDField()),
                ("number", models.PositiveSmallIntegerField()),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField()),
                ("source_id", models.UUIDField(null=True)),
                ("source_address", models.GenericIPAddressField(null=True)),
                ("worker", models.CharField(max_length=80)),
                ("fence", models.BigIntegerField()),
                ("host", models.CharField(blank=True, max_length=255)),
                ("host_address", models.GenericIPAddressField(null=True)),
                ("port", models.PositiveIntegerField(null=True)),
                ("phase", models.CharField(max_length=8)),
                ("origin", models.CharField(help_text="who spoke: peer, network, dns, tls or own", max_length=8)),
                ("reply_code", models.PositiveSmallIntegerField()),
                ("reply_enhanced", models.CharField(blank=True, max_length=12)),
                ("reply_text", models.TextField()),
                ("reply_class", models.CharField(blank=True, max_length=20)),
                ("action", models.CharField(blank=True, max_length=20)),
                ("scope", models.CharField(blank=True, max_length=20)),
                ("rule", models.CharField(blank=True, max_length=80)),
                ("is_ambiguous", models.BooleanField(default=False)),
                ("tls_version", models.CharField(blank=True, max_length=10)),
                ("tls_cipher", models.CharField(blank=True, max_length=60)),
                (
                    "transcript",
                    models.BinaryField(help_text="JSON of delivery.transport.transcript: never content, never secrets"),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["recipient_id"], name="attempt_of_recipient")],
            },
        ),
        CreatePartitionedModel(
            partition_by="RANGE (message_id)",
            name="DeliveryEvent",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "message_id", "id", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("id", models.UUIDField(editable=False)),
                ("message_id", models.UUIDField()),
                ("recipient_id", models.UUIDField()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("accepted", "accepted"),
                            ("delivered", "delivered"),
                            ("deferred", "deferred"),
                            ("bounced", "bounced"),
                            ("returned", "returned"),
                            ("expired", "expired"),
                            ("suppressed", "suppressed"),
                            ("complained", "complained"),
                            ("unsubscribed", "unsubscribed"),
                            ("held", "held"),
                            ("cancelled", "cancelled"),
                        ],
                        max_length=12,
                    ),
                ),
                ("occurred_at", models.DateTimeField()),
                ("attempt_id", models.UUIDField(null=True)),
                ("data", models.JSONField(default=dict)),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
            ],
            options={
                "db_table": "delivery_event",
                "indexes": [models.Index(fields=["recipient_id"], name="event_of_recipient")],
            },
        ),
        CreatePartitionedModel(
            partition_by="RANGE (id)",
            name="Recipient",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("address", models.CharField(max_length=320)),
                ("domain", models.CharField(max_length=255)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "queued"),
                            ("deferred", "deferred"),
                            ("held", "held"),
                            ("delivered", "delivered"),
                            ("bounced", "bounced"),
                            ("expired", "expired"),
                            ("suppressed", "suppressed"),
                            ("cancelled", "cancelled"),
                        ],
                        max_length=10,
                    ),
                ),
                ("state_since", models.DateTimeField()),
                (
                    "reason",
                    models.CharField(
                        blank=True, help_text="why it is held or suppressed, a machine word", max_length=60
                    ),
                ),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField(null=True)),
                ("phase", models.CharField(blank=True, max_length=8)),
                ("reply_code", models.PositiveSmallIntegerField(null=True)),
                ("reply", models.TextField(blank=True, help_text="code, enhanced status and text on one line")),
                ("reply_class", models.CharField(blank=True, max_length=20)),
                ("action", models.CharField(blank=True, max_length=20)),
                ("scope", models.CharField(blank=True, max_length=20)),
                ("rule", models.CharField(blank=True, max_length=80)),
                ("host", models.CharField(blank=True, max_length=255)),
                ("source_id", models.UUIDField(null=True)),
                ("has_ambiguous_attempt", models.BooleanField(default=False)),
                ("returned_at", models.DateTimeField(null=True)),
                ("returned_class", models.CharField(blank=True, max_length=20)),
                (
                    "dsn_notify",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=7),
                        help_text="NOTIFY of RFC 3461; null: not given",
                        null=True,
                        size=None,
                    ),
                ),
                ("dsn_orcpt", models.CharField(blank=True, max_length=500)),
                (
                    "group",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="delivery.providergroup",
                    ),
                ),
                (
                    "message",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="recipients",
                        to="delivery.message",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["message"], name="recipient_of_message"),
                    models.Index(fields=["tenant", "-id"], name="recipient_of_tenant"),
                    models.Index(fields=["tenant", "state", "-id"], name="recipient_by_state"),
                    models.Index(fields=["tenant", "address", "-id"], name="recipient_by_address"),
                    models.Index(fields=["tenant", "domain", "-id"], name="recipient_by_domain"),
                ],
            },
        ),
        migrations.CreateModel(
            name="RejectionEntry",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("minute", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
                ("count", models.PositiveIntegerField(default=1)),
                ("code", models.PositiveSmallIntegerField()),
                ("enhanced", models.CharField(blank=True, max_length=12)),
                ("text", models.CharField(max_length=500)),
                ("reason", models.CharField(help_text="machine word", max_length=60)),
                ("author_domain", models.CharField(blank=True, max_length=255)),
                ("peer_address", models.GenericIPAddressField(null=True)),
                ("reference", models.CharField(blank=True, max_length=32)),
                (
                    "credential",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.credential",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="+", to="accounts.tenant"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["tenant", "-id"], name="rejection_of_tenant")],
            },
        ),
        migrations.CreateModel(
            name="Route",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "domain",
                    models.CharField(
                        help_text="A-label, or * for every domain without a route of its own", max_length=255
                    ),
                ),
                ("host", models.CharField(max_length=255)),
                ("port", models.PositiveIntegerField()),
                ("tls", models.CharField(default="opportunistic", max_length=13)),
                ("username", models.CharField(blank=True, max_length=255)),
                ("sealed_password", models.BinaryField(blank=True, null=True)),
                ("connections", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="delivery.providergroup"
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="routes",
                        to="accounts.tenant",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("tenant__isnull", True)),
                        fields=("domain",),
                        name="route_once_for_everybody",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("tenant__isnull", False)),
                        fields=("domain", "tenant"),
                        name="route_once_per_tenant",
                    ),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="sendingdomain",
            index=models.Index(
                condition=models.Q(("state", "removed"), _negated=True),
                fields=["next_check_at"],
                name="sending_domain_due_check",
            ),
        ),
        migrations.AddConstraint(
            model_name="sendingdomain",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "removed"), _negated=True),
                fields=("tenant", "name"),
                name="sending_domain_once_per_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="sendingdomain",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state__in", ["verified", "lapsed"])),
                fields=("name",),
                name="sending_domain_one_owner",
            ),
        ),
        migrations.AddConstraint(
            model_name="dkimkey",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "retired"), _negated=True),
                fields=("domain", "selector"),
                name="dkim_key_selector_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="dkimkey",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "signing")), fields=("domain",), name="dkim_key_one_signing"
            ),
        ),
        migrations.AddConstraint(
            model_name="path",
            constraint=models.UniqueConstraint(fields=("source", "group"), name="path_once"),
        ),
        migrations.AddConstraint(
            model_name="sourcepool",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind", "dedicated"), ("tenant__isnull", False)),
                    models.Q(models.Q(("kind", "dedicated"), _negated=True), ("tenant__isnull", True)),
                    _connector="OR",
                ),
                name="source_pool_dedicated_to_one_tenant",
            ),
        ),
        migrations.AddConstraint(
            model_name="sourceaddress",
            constraint=models.UniqueConstraint(
                models.F("node"),
                condition=models.Q(("address__isnull", True)),
                name="source_address_one_unbound_per_node",
            ),
        ),
        migrations.AddConstraint(
            model_name="stream",
            constraint=models.UniqueConstraint(fields=("tenant", "name"), name="stream_name_once_per_tenant"),
        ),
        migrations.AddConstraint(
            model_name="stream",
            constraint=models.UniqueConstraint(
                models.F("tenant"), condition=models.Q(("is_default", True)), name="stream_one_default"
            ),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(fields=["tenant", "-id"], name="message_of_tenant"),
        ),
        migrations.AddIndex(
            model_name="message",
            index=models.Index(fields=["tenant", "header_message_id"], name="message_by_message_id_field"),
        ),
        migrations.AddIndex(
            model_name="lane",
            index=models.Index(
                condition=models.Q(("next_due_at__isnull", False)), fields=["next_due_at"], name="lane_due"
            ),
        ),
        migrations.AddConstraint(
            model_name="lane",
            constraint=models.UniqueConstraint(
                condition=models.Q(("pinned_source__isnull", True)),
                fields=("pool", "group", "tenant", "stream"),
                name="lane_once",
            ),
        ),
        migrations.AddConstraint(
            model_name="lane",
            constraint=models.UniqueConstraint(
                condition=models.Q(("pinned_source__isnull", False)),
                fields=("pool", "group", "tenant", "stream", "pinned_source"),
                name="lane_once_per_pinned_source",
            ),
        ),
        migrations.AddIndex(
            model_name="worker",
            index=models.Index(fields=["node", "heartbeat_at"], name="worker_alive"),
        ),
        migrations.RunSQL(HOT_TABLES, migrations.RunSQL.noop),
        migrations.RunSQL(APPEND_ONLY, "DROP TRIGGER append_only ON delivery_event"),
        migrations.RunSQL(REJECTION_ONCE_A_MINUTE, "DROP INDEX rejection_once_a_minute"),
    ]
