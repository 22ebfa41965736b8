"""Aggregate reports as receivers write them: DMARC of both RFCs, TLS, and the mails they come in."""

from __future__ import annotations

import base64
import gzip
import io
import json
import zipfile
from typing import Any

BEGIN, END = 1763856000, 1763942399  # 2025-11-23, a whole day


def record(
    source: str = "192.0.2.10",
    count: object = 2,
    *,
    dkim: str = "pass",
    spf: str = "fail",
    disposition: str = "none",
    header_from: str = "acme.example",
    dkim_domain: str = "acme.example",
    spf_domain: str = "bounce.acme.example",
) -> str:
    return f"""<record><row><source_ip>{source}</source_ip><count>{count}</count>
    <policy_evaluated><disposition>{disposition}</disposition><dkim>{dkim}</dkim><spf>{spf}</spf></policy_evaluated></row>
    <identifiers><header_from>{header_from}</header_from></identifiers>
    <auth_results><dkim><domain>{dkim_domain}</domain><selector>rw1</selector><result>{dkim}</result></dkim>
    <spf><domain>{spf_domain}</domain><result>{spf}</result></spf></auth_results></record>"""


def dmarc_xml(
    *records: str,
    domain: str = "acme.example",
    reporter: str = "receiver.example",
    report_id: str = "r-1",
    namespace: str = "",
    prologue: str = "",
    begin: int = BEGIN,
    end: int = END,
) -> bytes:
    name = f' xmlns="{namespace}"' if namespace else ""
    return f"""<?xml version="1.0" encoding="UTF-8"?>{prologue}<feedback{name}><report_metadata><org_name>{reporter}</org_name>
    <email>dmarc@{reporter}</email><report_id>{report_id}</report_id>
    <date_range><begin>{begin}</begin><end>{end}</end></date_range></report_metadata>
    <policy_published><domain>{domain}</domain><adkim>r</adkim><aspf>r</aspf><p>none</p><sp>none</sp></policy_published>
    {"".join(records or (record(),))}</feedback>""".encode()


def tls_json(domain: str = "acme.example", report_id: str = "t-1", **more: Any) -> bytes:
    document = {
        "organization-name": "Receiver",
        "date-range": {"start-datetime": "2025-11-23T00:00:00Z", "end-datetime": "2025-11-23T23:59:59Z"},
        "contact-info": "tls@receiver.example",
        "report-id": report_id,
        "policies": [
            {
                "policy": {"policy-type": "sts", "policy-domain": domain, "mx-host": ["mx.acme.example"]},
                "summary": {"total-successful-session-count": 5326, "total-failure-session-count": 303},
                "failure-details": [
                    {
                        "result-type": "certificate-expired",
                        "sending-mta-ip": "192.0.2.77",
                        "receiving-mx-hostname": "mx.acme.example",
                        "failed-session-count": 303,
                    }
                ],
            }
        ],
    }
    return json.dumps({**document, **more}).encode()


def zipped(*files: bytes, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as writer:
        for number, file in enumerate(files):
            writer.writestr(f"report{number}.xml", file)
    return archive.getvalue()


def mail_with(
    attachment: bytes,
    *,
    media_type: str = "application/gzip",
    name: str = "receiver.example!acme.example!1763856000!1763942399.xml.gz",
    subject: str = "Report Domain: acme.example Submitter: receiver.example Report-ID: <r-1>",
) -> bytes:
    encoded = base64.encodebytes(attachment).replace(b"\n", b"\r\n")
    return (
        (
            f"From: dmarc@receiver.example\r\nTo: dmarc@bounce.relay.test\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
            f'Content-Type: multipart/mixed; boundary="edge"\r\n\r\n--edge\r\nContent-Type: text/plain\r\n\r\n'
            f'This is an aggregate report.\r\n--edge\r\nContent-Type: {media_type}; name="{name}"\r\n'
            f'Content-Disposition: attachment; filename="{name}"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        ).encode()
        + encoded
        + b"--edge--\r\n"
    )


def dmarc_mail(*records: str, **more: Any) -> bytes:
    return mail_with(gzip.compress(dmarc_xml(*records, **more)))


def tls_mail(**more: Any) -> bytes:
    return mail_with(
        gzip.compress(tls_json(**more)),
        media_type="application/tlsrpt+gzip",
        name="receiver.example!acme.example!1763856000!1763942399!001.json.gz",
    )
