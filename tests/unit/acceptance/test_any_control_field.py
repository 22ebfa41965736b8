"""X-Relay-* header fields, whatever stands in them: understood within the limits, or refused in one line that names them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from delivery.acceptance import controls
from delivery.core.content import ContentError, read_header_section
from delivery.core.replies import Rejection

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
NAMES = ["Stream", "Pool", "Tags", "Metadata", "TLS", "Send-At", "Lifetime-Seconds", "Idempotency-Key", "Variables", ""]
VALUES = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40).map(lambda text: text.encode("utf-8", "replace")),
    st.text(alphabet='{}[]":,\\ud80\0 x', max_size=30).map(str.encode),
    st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.isoformat().encode()),
    st.integers().map(lambda number: str(number).encode()),
)


@given(st.lists(st.tuples(st.sampled_from(NAMES), VALUES), min_size=1, max_size=4))
@example([("Send-At", b"0001-01-01T00:00:00+23:59")])
@example([("Send-At", b"9999-12-31T23:59:59-23:59")])
@example([("Metadata", b'{"a": "\\ud800"}')])
@example([("Metadata", b"[" * 5_000)])
@example([("Lifetime-Seconds", "٣٦٠٠".encode())])
def test_nothing_else_comes_of_it(fields: list[tuple[str, bytes]]) -> None:
    content = b"".join(f"X-Relay-{name}: ".encode() + value + b"\r\n" for name, value in fields) + b"\r\n"
    try:
        section = read_header_section(content)
    except ContentError:
        return

    try:
        said = controls.taken_from(section, digest=lambda: b"digest", now=NOW)
    except Rejection as rejection:
        assert rejection.reply.line.isascii() and rejection.reply.line.isprintable()
        assert (rejection.reply.code, rejection.reason) == (550, "control_refused")
        return

    assert len(said.tags) <= 10 and len(said.metadata) <= 50
    assert said.send_at is None or said.send_at <= NOW + timedelta(hours=72)
    assert said.lifetime is None or timedelta(minutes=1) <= said.lifetime <= timedelta(days=7)
    for text in (*said.tags, *said.metadata, *said.metadata.values(), said.stream, said.pool):
        assert not any(character in text for character in "\0\r\n")
