"""Tables of the mail itself, one subject a file.

The tables that grow with mail (message, content, recipient, attempt, event) are range-partitioned by UUIDv7 keys and have no
foreign keys in the database; everything that is open stands in the narrow queue_entry.
"""

from delivery.models.aggregate import AggregateKind, DmarcRow, DomainReport, TlsFailure
from delivery.models.alert import Alert, AlertTelling
from delivery.models.attempt import Attempt
from delivery.models.brake import Appeal, Brake, CredentialStanding, UnjudgedRecipient
from delivery.models.content_key import ContentKey
from delivery.models.domain import DkimKey, DkimKeyState, DomainState, SendingDomain
from delivery.models.domain_listing import DomainListCheck
from delivery.models.event import DeliveryEvent
from delivery.models.idempotency import IdempotencyKey
from delivery.models.job import LOG_KINDS, Job, JobFault, JobKind, JobPart, JobState
from delivery.models.message import Content, Message
from delivery.models.owed import OwedAction, OwedDsn
from delivery.models.provider import GroupKind, ProviderGroup
from delivery.models.provider_data import ProviderDataKind, ProviderDay, ProviderImport
from delivery.models.queue import DomainRoute, Lane, Path, PathChange, PathUse, QueueEntry, Worker
from delivery.models.recipient import Recipient
from delivery.models.rejection import RejectionEntry
from delivery.models.reputation import ReputationScore, SenderScore
from delivery.models.returned import Complaint, ReturnedKind, ReturnedMail
from delivery.models.route import Route
from delivery.models.rule import ReplyRule, UnmatchedReply
from delivery.models.saved_filter import SavedFilter
from delivery.models.source import Node, PoolKind, SourceAddress, SourcePool, SourceState
from delivery.models.source_check import SourceCheck, SourceCheckState
from delivery.models.statistic import EventToCount, Statistic, StatisticClass, StatisticTag, StatisticTime
from delivery.models.stream import Stream, StreamKind
from delivery.models.suppression import (
    ImportState,
    Strike,
    Suppression,
    SuppressionImport,
    SuppressionKind,
    SuppressionReason,
    SuppressionScope,
)
from delivery.models.tls_policy import MtaStsPolicy
from delivery.models.warmup import PathHour, WarmUp, WarmUpPlan, WarmUpState, WarmUpStep
from delivery.models.webhook import (
    TenantEvent,
    Webhook,
    WebhookCall,
    WebhookEvent,
    WebhookFormat,
    WebhookOutcome,
    WebhookState,
)

__all__ = [
    "LOG_KINDS",
    "AggregateKind",
    "Alert",
    "AlertTelling",
    "Appeal",
    "Attempt",
    "Brake",
    "Complaint",
    "Content",
    "ContentKey",
    "CredentialStanding",
    "DeliveryEvent",
    "DkimKey",
    "DkimKeyState",
    "DmarcRow",
    "DomainListCheck",
    "DomainReport",
    "DomainRoute",
    "DomainState",
    "EventToCount",
    "GroupKind",
    "IdempotencyKey",
    "ImportState",
    "Job",
    "JobFault",
    "JobKind",
    "JobPart",
    "JobState",
    "Lane",
    "Message",
    "MtaStsPolicy",
    "Node",
    "OwedAction",
    "OwedDsn",
    "Path",
    "PathChange",
    "PathHour",
    "PathUse",
    "PoolKind",
    "ProviderDataKind",
    "ProviderDay",
    "ProviderGroup",
    "ProviderImport",
    "QueueEntry",
    "Recipient",
    "RejectionEntry",
    "ReplyRule",
    "ReputationScore",
    "ReturnedKind",
    "ReturnedMail",
    "Route",
    "SavedFilter",
    "SenderScore",
    "SendingDomain",
    "SourceAddress",
    "SourceCheck",
    "SourceCheckState",
    "SourcePool",
    "SourceState",
    "Statistic",
    "StatisticClass",
    "StatisticTag",
    "StatisticTime",
    "Stream",
    "StreamKind",
    "Strike",
    "Suppression",
    "SuppressionImport",
    "SuppressionKind",
    "SuppressionReason",
    "SuppressionScope",
    "TenantEvent",
    "TlsFailure",
    "UnjudgedRecipient",
    "UnmatchedReply",
    "WarmUp",
    "WarmUpPlan",
    "WarmUpState",
    "WarmUpStep",
    "Webhook",
    "WebhookCall",
    "WebhookEvent",
    "WebhookFormat",
    "WebhookOutcome",
    "WebhookState",
    "Worker",
]
