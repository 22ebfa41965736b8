import django.contrib.postgres.constraints
import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.core.validators
import django.db.models.deletion
import django.db.models.functions.text
import django.utils.timezone
from django.conf import settings
from django.contrib.postgres.operations import BtreeGistExtension
from django.db import migrations, models

import accounts.identifiers
import accounts.models.fields

# The log is only ever added to, whoever holds the application's database role.
APPEND_ONLY = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON accounts_auditentry
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        # For the exclusion constraint that keeps the networks of two tenants apart (a trusted extension: no superuser needed).
        BtreeGistExtension(),
        migrations.CreateModel(
            name="User",
            fields=[
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("last_login", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("email", models.EmailField(max_length=254, unique=True)),
                ("email_confirmed_at", models.DateTimeField(blank=True, null=True)),
                ("name", models.CharField(blank=True, max_length=120)),
                (
                    "language",
                    models.CharField(blank=True, help_text="ja, en, or empty: as the browser asks", max_length=2),
                ),
                ("time_zone", models.CharField(blank=True, max_length=64)),
                ("theme", models.CharField(blank=True, help_text="light, dark, or empty: as the device", max_length=5)),
                ("is_active", models.BooleanField(default=True)),
                ("is_operator", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(django.db.models.functions.text.Lower("email"), name="user_email_unique")
                ],
            },
        ),
        migrations.CreateModel(
            name="RateBucket",
            fields=[
                ("owner_id", models.UUIDField(help_text="tenant or credential", primary_key=True, serialize=False)),
                ("rate_per_second", models.FloatField()),
                ("capacity", models.FloatField()),
                ("tokens", models.FloatField()),
                ("refilled_at", models.DateTimeField()),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("rate_per_second__gt", 0)), name="rate_bucket_refills")
                ],
            },
        ),
        migrations.CreateModel(
            name="Tenant",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("slug", models.SlugField(max_length=48, unique=True)),
                ("name", models.CharField(max_length=120)),
                (
                    "state",
                    models.CharField(
                        choices=[("active", "Active"), ("suspended", "Suspended"), ("closed", "Closed")],
                        default="active",
                        max_length=9,
                    ),
                ),
                ("state_reason", models.CharField(blank=True, max_length=500)),
                (
                    "is_system",
                    models.BooleanField(default=False, help_text="the service's own mail: sign-up, reset, alerts"),
                ),
                ("language", models.CharField(default="ja", max_length=2)),
                ("time_zone", models.CharField(default="Asia/Tokyo", max_length=64)),
                ("requires_two_factors", models.BooleanField(default=False)),
                ("hourly_limit", models.PositiveIntegerField(blank=True, null=True)),
                ("daily_limit", models.PositiveIntegerField(blank=True, null=True)),
                ("monthly_limit", models.PositiveIntegerField(blank=True, null=True)),
                (
                    "rate_per_second",
                    models.FloatField(
                        blank=True, null=True, validators=[django.core.validators.MinValueValidator(0.001)]
                    ),
                ),
                ("max_message_bytes", models.PositiveIntegerField(blank=True, null=True)),
                ("max_recipients", models.PositiveIntegerField(blank=True, null=True)),
                ("content_retention_days", models.PositiveSmallIntegerField(default=7)),
                ("log_retention_days", models.PositiveSmallIntegerField(default=90)),
                ("keeps_content_after_delivery", models.BooleanField(default=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                ("closed_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        models.F("is_system"), condition=models.Q(("is_system", True)), name="tenant_one_system"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="QuotaBucket",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "owner_id",
                        "period",
                        "window_start",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("owner_id", models.UUIDField(help_text="tenant or credential")),
                (
                    "period",
                    models.CharField(choices=[("hour", "Hour"), ("day", "Day"), ("month", "Month")], max_length=5),
                ),
                ("window_start", models.DateTimeField()),
                ("used", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Membership",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("owner", "Owner"),
                            ("admin", "Admin"),
                            ("developer", "Developer"),
                            ("analyst", "Analyst"),
                        ],
                        default="developer",
                        max_length=9,
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="memberships",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="memberships", to="accounts.tenant"
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("tenant", "user"), name="membership_once")],
            },
        ),
        migrations.CreateModel(
            name="Credential",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "kind",
                    models.CharField(choices=[("smtp", "Smtp"), ("api", "Api"), ("network", "Network")], max_length=7),
                ),
                (
                    "use",
                    models.CharField(
                        choices=[("application", "Application"), ("mail-server", "Mail Server")],
                        default="application",
                        max_length=11,
                    ),
                ),
                (
                    "is_test",
                    models.BooleanField(default=False, help_text="mail is accepted and shown, and never leaves"),
                ),
                ("name", models.CharField(max_length=120)),
                ("username", models.CharField(blank=True, max_length=64, null=True, unique=True)),
                ("secret_sha256", models.BinaryField(blank=True, max_length=32, null=True)),
                ("former_secret_sha256", models.BinaryField(blank=True, max_length=32, null=True)),
                ("former_secret_until", models.DateTimeField(blank=True, null=True)),
                (
                    "scopes",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=20),
                        blank=True,
                        default=list,
                        help_text="API keys: send, read, manage",
                        size=None,
                    ),
                ),
                ("network", accounts.models.fields.NetworkField(blank=True, null=True)),
                ("stream_id", models.UUIDField(blank=True, null=True)),
                ("pool_id", models.UUIDField(blank=True, null=True)),
                (
                    "only_domain",
                    models.CharField(blank=True, help_text="author domain it is limited to", max_length=255),
                ),
                (
                    "only_networks",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=accounts.models.fields.NetworkField(),
                        blank=True,
                        default=list,
                        help_text="peers it may be used from",
                        size=None,
                    ),
                ),
                (
                    "rate_per_second",
                    models.FloatField(
                        blank=True, null=True, validators=[django.core.validators.MinValueValidator(0.001)]
                    ),
                ),
                ("daily_limit", models.PositiveIntegerField(blank=True, null=True)),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "approved_at",
                    models.DateTimeField(
                        blank=True, help_text="network credentials work once an operator agreed", null=True
                    ),
                ),
                ("expires_at", models.DateTimeField(blank=True, null=True)),
                ("revoked_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_at", models.DateTimeField(blank=True, null=True)),
                ("last_used_from", models.GenericIPAddressField(blank=True, null=True)),
                ("used_count", models.BigIntegerField(default=0)),
                (
                    "approved_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "created_by",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="credentials", to="accounts.tenant"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["tenant", "-created_at"], name="credential_of_tenant")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("kind", "network"), ("network__isnull", False), ("secret_sha256__isnull", True)),
                            models.Q(
                                ("kind__in", ["smtp", "api"]),
                                ("secret_sha256__isnull", False),
                                ("username__isnull", False),
                            ),
                            _connector="OR",
                        ),
                        name="credential_has_secret_or_network",
                    ),
                    django.contrib.postgres.constraints.ExclusionConstraint(
                        condition=models.Q(("kind", "network"), ("revoked_at__isnull", True)),
                        expressions=[
                            ("tenant", "<>"),
                            (django.contrib.postgres.indexes.OpClass("network", name="inet_ops"), "&&"),
                        ],
                        name="credential_networks_of_tenants_apart",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=accounts.identifiers.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("occurred_at", models.DateTimeField(default=django.utils.timezone.now, editable=False)),
                (
                    "actor_name",
                    models.CharField(help_text="who, in words, also when the account is gone", max_length=254),
                ),
                (
                    "on_behalf_of",
                    models.CharField(blank=True, help_text="the member an operator acted as", max_length=254),
                ),
                ("action", models.CharField(help_text="noun.verb, e.g. credential.issue", max_length=60)),
                ("object_id", models.CharField(blank=True, max_length=64)),
                ("object_name", models.CharField(blank=True, max_length=255)),
                ("before", models.JSONField(default=dict)),
                ("after", models.JSONField(default=dict)),
                ("reason", models.CharField(blank=True, max_length=500)),
                ("peer_address", models.GenericIPAddressField(null=True)),
                (
                    "actor",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.tenant",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["tenant", "-id"], name="audit_of_tenant")],
            },
        ),
        migrations.RunSQL(APPEND_ONLY, "DROP TRIGGER append_only ON accounts_auditentry; DROP FUNCTION refuse_change"),
    ]
