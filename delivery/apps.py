from django.apps import AppConfig
from django.db.models.signals import post_migrate


class DeliveryConfig(AppConfig):
    name = "delivery"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from accounts import audit
        from delivery import foundation, tenant_events

        audit.recorded.connect(tenant_events.follow_audit, dispatch_uid="delivery.tenant_events")
        post_migrate.connect(foundation.lay, sender=self, dispatch_uid="delivery.foundation")
