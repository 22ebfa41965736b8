"""Tables of accounts, one subject a file."""

from accounts.models.audit import AuditEntry
from accounts.models.credential import Credential, CredentialKind, CredentialUse
from accounts.models.membership import Membership, Role
from accounts.models.quota import QuotaBucket, QuotaPeriod, RateBucket
from accounts.models.tenant import QuietStreams, Tenant, TenantState
from accounts.models.user import User

__all__ = [
    "AuditEntry",
    "Credential",
    "CredentialKind",
    "CredentialUse",
    "Membership",
    "QuietStreams",
    "QuotaBucket",
    "QuotaPeriod",
    "RateBucket",
    "Role",
    "Tenant",
    "TenantState",
    "User",
]
