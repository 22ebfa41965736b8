"""Tables of accounts, one subject a file."""

from accounts.models.audit import AuditEntry
from accounts.models.credential import Credential, CredentialKind, CredentialUse
from accounts.models.entry import Invitation, SignedInBrowser, SignUp
from accounts.models.factor import OneTimePassword, Passkey, RecoveryCode
from accounts.models.membership import Membership, Role
from accounts.models.notice import Notice, NoticeChoice, NoticeKind
from accounts.models.quota import QuotaBucket, QuotaPeriod, RateBucket
from accounts.models.tenant import QuietStreams, Tenant, TenantState
from accounts.models.user import User

__all__ = [
    "AuditEntry",
    "Credential",
    "CredentialKind",
    "CredentialUse",
    "Invitation",
    "Membership",
    "Notice",
    "NoticeChoice",
    "NoticeKind",
    "OneTimePassword",
    "Passkey",
    "QuietStreams",
    "QuotaBucket",
    "QuotaPeriod",
    "RateBucket",
    "RecoveryCode",
    "Role",
    "SignUp",
    "SignedInBrowser",
    "Tenant",
    "TenantState",
    "User",
]
