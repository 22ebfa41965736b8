"""report parse"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from delivery.core.aggregates import Found, find_aggregates, read_aggregate_file
from delivery.core.dmarc import AggregateReport, Sender
from delivery.core.reports import Kind, ReportedRecipient
from delivery.core.tls_reports import Failure, PolicyResult, TlsReport
from delivery.reports.reading import read_returned_file, split_mbox
from relayweb.commandline import output


@click.group("report")
def command() -> None:
    """Mail that came back: bounces, complaints, automatic replies, DMARC and TLS reports."""


@command.command("parse")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def parse(files: tuple[Path, ...]) -> None:
    """What reports say. A FILE is one mail or an mbox, or an aggregate report as it was attached (XML, JSON, gzip, ZIP)."""
    found = {file: _rows(file) for file in files}
    if output.is_json():
        output.write({str(file): rows for file, rows in found.items()})
        return
    lines = [
        [file.name, *(_word(row[column]) for column in _COLUMNS)]
        for file, rows in found.items()
        for row in rows
        if not _is_aggregate(row)
    ]
    if lines:
        output.table(["file", *_COLUMNS], lines)
    for file, rows in found.items():
        for row in filter(_is_aggregate, rows):
            _print_aggregate(file, row)


_COLUMNS = ("recipient", "kind", "class", "hard", "status", "reply_code", "feedback_type")
_AGGREGATES = ("dmarc", "tls", "damaged")


def _is_aggregate(row: dict[str, Any]) -> bool:
    return any(name in row for name in _AGGREGATES)


def _rows(file: Path) -> list[dict[str, Any]]:
    content = file.read_bytes()
    bare = read_aggregate_file(content)
    if bare:
        return [_aggregate_row(one) for one in bare]
    rows = []
    for mail, report in zip(split_mbox(content), read_returned_file(content), strict=True):
        # Whoever reports a failure of one mail sends no sums; so only what is nothing else is looked into.
        sums = find_aggregates(mail) if report.kind is Kind.OTHER else []
        rows += [_aggregate_row(one) for one in sums] or [_row(one) for one in report.rows]
    return rows


def _row(one: ReportedRecipient) -> dict[str, Any]:
    return {
        "recipient": one.address,
        "kind": one.kind.value,
        "class": one.class_word,
        "hard": one.is_hard,
        "status": one.status,
        "reply_code": one.reply_code,
        "feedback_type": one.feedback_type,
    }


def _aggregate_row(one: Found) -> dict[str, Any]:
    """A row like the others, about nobody, with the sums beside it."""
    return {**_row(ReportedRecipient("", Kind.OTHER)), **_sums(one)}


def _sums(one: Found) -> dict[str, Any]:
    match one:
        case AggregateReport():
            return {
                "dmarc": {
                    **_heading(one, one.policy.domain),
                    "policy": one.policy.p,
                    "count": one.count,
                    "passed": sum(sender.count for sender in one.senders if sender.passes),
                    "cut": one.is_cut,
                    "senders": [_sender(sender) for sender in one.senders],
                }
            }
        case TlsReport():
            return {"tls": {**_heading(one, one.domain), "policies": [_policy(policy) for policy in one.policies]}}
        case _:
            return {"damaged": {"reason": one.reason, "domain": one.domain}}


def _heading(one: AggregateReport | TlsReport, domain: str) -> dict[str, Any]:
    return {
        "domain": domain,
        "reporter": one.reporter,
        "report_id": one.report_id,
        "begins_at": one.begins_at,
        "ends_at": one.ends_at,
    }


def _sender(sender: Sender) -> dict[str, Any]:
    return {
        "source": sender.source,
        "count": sender.count,
        "passes": sender.passes,
        "dkim": sender.dkim,
        "spf": sender.spf,
        "disposition": sender.disposition,
        "header_from": sender.header_from,
        "dkim_domain": sender.dkim_domain,
        "spf_domain": sender.spf_domain,
    }


def _policy(policy: PolicyResult) -> dict[str, Any]:
    return {
        "policy": policy.kind,
        "domain": policy.domain,
        "successes": policy.successes,
        "failures": policy.failures,
        "details": [_failure(failure) for failure in policy.details],
    }


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "kind": failure.kind,
        "count": failure.count,
        "receiving_host": failure.receiving_host,
        "sending_address": failure.sending_address,
        "detail": failure.detail,
    }


def _print_aggregate(file: Path, row: dict[str, Any]) -> None:
    kind = next(name for name in _AGGREGATES if name in row)
    sums = dict(row[kind])
    lists = {name: sums.pop(name) for name in ("senders", "policies") if name in sums}
    click.echo()
    output.record({"file": file.name, "report": kind, **sums})
    for rows in lists.values():
        shown = [{**one, "details": len(one["details"])} if "details" in one else one for one in rows]
        if shown:
            output.table(list(shown[0]), [list(one.values()) for one in shown])


def _word(value: Any) -> Any:
    return None if value == "" else value
