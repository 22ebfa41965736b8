"""The words for work on all that a filter finds, and for what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext_lazy as _

from delivery.models import (
    JobFault,
    JobKind,
    JobState,
)
from relayweb.console.words import Mark, Text


@dataclass(frozen=True, slots=True)
class JobWords:
    """Work on all that a filter finds: its name, what it does and the way back, and what is said when there is nothing."""

    title: Text
    effects: tuple[Text, ...]
    button: Text
    none: Text


JOBS: dict[JobKind, JobWords] = {
    JobKind.EXPORT: JobWords(
        title=_("Export"),
        effects=(
            _(
                "The file has one line for each recipient, with state, reply, subject and identifiers, and nothing of "
                "the content."
            ),
            _("It is made in the background and kept for 7 days."),
        ),
        button=_("Export"),
        none=_("Nothing is found, so there is nothing to export."),
    ),
    JobKind.RETRY: JobWords(
        title=_("Retry now"),
        effects=(
            _("What waits to be sent again is tried now, without waiting for its next step."),
            _("What is being sent at this moment, or held, stays as it is."),
        ),
        button=_("Retry now"),
        none=_("Nothing that is found is still open."),
    ),
    JobKind.HOLD: JobWords(
        title=_("Hold"),
        effects=(
            _("Open mail is kept and not sent until you release it, or until its time runs out."),
            _("What is being sent at this moment may still go out."),
        ),
        button=_("Hold"),
        none=_("Nothing that is found is still open."),
    ),
    JobKind.RELEASE: JobWords(
        title=_("Release"),
        effects=(
            _("What a member has held is sent after all, beginning at once."),
            _("What the service holds, for example because a domain is not verified, stays held."),
        ),
        button=_("Release"),
        none=_("Nothing that is found is still open."),
    ),
    JobKind.CANCEL: JobWords(
        title=_("Cancel mail"),
        effects=(
            _("Open mail is withdrawn for good. This cannot be undone."),
            _("What is being sent at this moment may still go out."),
        ),
        button=_("Cancel this mail"),
        none=_("Nothing that is found is still open."),
    ),
    JobKind.ARCHIVE: JobWords(
        title=_("Export of everything"),
        effects=(
            _(
                "One ZIP file with settings, members, domains and their DNS records, credentials, webhooks, suppressions, "
                "unsubscribes, messages with what became of each recipient, rejections, reports, figures by month and the "
                "audit log."
            ),
            _("Not in it: the content of mail, passwords, secrets and private keys."),
            _(
                "It is made in the background and can be downloaded by owners and admins for 7 days; then it is erased. "
                "A former export goes when the new one is ready."
            ),
            _("Asking for it and each download stand in the audit log."),
        ),
        button=_("Export everything"),
        none="",
    ),
}
JOB_FAULTS: dict[JobFault, Text] = {
    JobFault.DISK_FULL: _("The service had no room left on its disk. The operator sees it; ask anew later."),
    JobFault.WORKER_LOST: _("Whoever worked on it was lost several times. Ask anew."),
    JobFault.OURS: _("A fault of ours ended it. Ask anew; if it ends again, write to support."),
}
JOB_STATES: dict[JobState, Mark] = {
    JobState.WAITING: Mark(_("Waiting"), "", tone="wait", icon="clock"),
    JobState.RUNNING: Mark(_("Running"), "", tone="wait", icon="refresh"),
    JobState.DONE: Mark(_("Done"), "", tone="ok", icon="circle-check"),
    JobState.CANCELLED: Mark(_("Stopped"), "", tone="quiet", icon="player-stop"),
    JobState.FAILED: Mark(_("Failed"), "", tone="fail", icon="circle-x"),
}
