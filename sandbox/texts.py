"""The words of the inbox page, in both languages."""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES = ("en", "ja")

_TEXTS: Mapping[str, tuple[str, str]] = {
    "title": ("Sandbox inbox", "サンドボックス受信箱"),
    "mailboxes": ("Mailboxes", "メールボックス一覧"),
    "answer": (
        "Mail that the sandbox's hosts have received. It has not left this machine.",
        "サンドボックスのサーバーが受け取ったメールです。このマシンの外には出ていません。",
    ),
    "filter": ("Recipient", "宛先"),
    "show": ("Show", "絞り込む"),
    "clear": ("Show all", "すべて表示する"),
    "time": ("Received", "受信日時"),
    "recipient": ("Recipient", "宛先"),
    "subject": ("Subject", "件名"),
    "author": ("From", "差出人"),
    "dkim": ("DKIM", "DKIM"),
    "size": ("Size", "サイズ"),
    "no_subject": ("(no subject)", "（件名なし）"),
    "empty": ("No mail has arrived yet.", "まだメールは届いていません。"),
    "empty_next": (
        "Send one to accept@accept.sandbox.test, and it appears here.",
        "accept@accept.sandbox.test 宛てに送ると、ここに表示されます。",
    ),
    "empty_filter": ("No mail to this recipient.", "この宛先のメールはありません。"),
    "older": ("Older", "さらに古いメール"),
    "newest": ("Newest", "最新のメール"),
    "back": ("Inbox", "受信箱"),
    "envelope": ("Envelope and session", "エンベロープとセッション"),
    "reverse_path": ("Reverse-path", "エンベロープの差出人"),
    "null_reverse_path": ("<> (null)", "<>（空）"),
    "host": ("Receiving host", "受信ホスト"),
    "peer": ("Sending host", "送信元"),
    "tls": ("TLS", "TLS"),
    "no_tls": ("not encrypted", "暗号化なし"),
    "behaviour": ("Behaviour", "動作"),
    "digest": ("SHA-256", "SHA-256"),
    "text": ("Text", "本文"),
    "no_text": ("There is no text part.", "テキスト部分はありません。"),
    "html": ("HTML part", "HTML部分"),
    "html_note": (
        "Shown in a closed frame: no scripts, nothing loaded from elsewhere.",
        "スクリプトや外部の読み込みを止めた枠の中に表示しています。",
    ),
    "parts": ("Parts", "パート"),
    "header": ("Header section as received", "受信したヘッダー"),
    "download": ("Download .eml", ".emlをダウンロードする"),
    "kind_accepted": ("Accepted", "受理"),
    "kind_dropped": ("Received, not answered", "受信・応答なし"),
    "dkim_pass": ("pass", "合格"),
    "dkim_fail": ("fail", "不合格"),
    "dkim_none": ("none", "署名なし"),
    "dkim_unchecked": ("open to check", "詳細で確認"),
    "not_found": ("There is no such page or mail.", "ページまたはメールが見つかりません。"),
    "file_gone": ("The file of this mail is no longer there.", "このメールのファイルは残っていません。"),
    "mailboxes_answer": (
        "Every mailbox does what its name says; any other name at its domain does the same.",
        "メールボックスは名前のとおりに動作します。同じドメインの別の名前でも同じです。",
    ),
    "address": ("Address", "アドレス"),
    "does": ("What it does", "動作の内容"),
    "expect": ("Expected state", "想定される状態"),
    "other_language": ("日本語", "English"),
    "skip": ("Skip to content", "本文へ移動"),
}


def choose_language(asked: str | None, accept_language: str) -> str:
    """`?lang=` first, then the browser's order of preference, then English."""
    if asked in LANGUAGES:
        return asked
    ranked = []
    for number, part in enumerate(accept_language[:500].split(",")):
        tag, _, weight = part.strip().partition(";q=")
        try:
            quality = float(weight or "1")
        except ValueError:
            quality = 0.0
        ranked.append((-quality, number, tag.lower().partition("-")[0]))
    return next((tag for _, _, tag in sorted(ranked) if tag in LANGUAGES), "en")


def text(key: str, language: str) -> str:
    return _TEXTS[key][LANGUAGES.index(language)]
