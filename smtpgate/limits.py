"""What a gate process allows its peers: sizes, counts and times, read once from the settings.

Where nothing was measured the numbers are Postfix's (connections per client, errors, times, minimum data rate).
"""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings


@dataclass(frozen=True, slots=True)
class Limits:
    max_message_bytes: int
    max_recipients: int

    # Sessions of this process, and of one peer address (one /64 of IPv6) among them.
    connections: int
    connections_per_address: int
    commands_per_session: int
    # Commands that bring no mail nearer (NOOP, RSET, VRFY, HELP, EHLO …) before one must.
    idle_commands: int
    # Refused commands before a mail is accepted.
    errors: int

    # A command must be complete within this time; while the process is nearly full, within the second one.
    command_seconds: float
    stress_command_seconds: float
    # A session must get somewhere (login, recipient, accepted mail) within this time, whatever it says meanwhile.
    unproductive_seconds: float
    # During DATA a peer has this much time in hand; what it sends adds to that at the minimum rate, never beyond it.
    data_seconds: float
    data_bytes_per_second: int
    # Content in memory, over all sessions of this process.
    content_memory_bytes: int

    tls_handshakes: int
    tls_handshake_seconds: float

    login_failures_per_session: int
    # Failures of one address in `login_window_seconds` after which it is not listened to any more.
    login_failures_per_address: int
    login_window_seconds: float
    # Waited before the first failure is answered; doubled with each further one, up to the maximum.
    login_delay_seconds: float
    login_delay_maximum_seconds: float

    drain_seconds: float

    @classmethod
    def from_settings(cls) -> Limits:
        return cls(
            max_message_bytes=settings.MAX_MESSAGE_BYTES,
            max_recipients=settings.MAX_RECIPIENTS,
            connections=settings.GATE_CONNECTIONS,
            connections_per_address=settings.GATE_CONNECTIONS_PER_ADDRESS,
            commands_per_session=settings.GATE_COMMANDS_PER_SESSION,
            idle_commands=settings.GATE_IDLE_COMMANDS,
            errors=settings.GATE_ERRORS,
            command_seconds=settings.GATE_COMMAND_SECONDS,
            stress_command_seconds=settings.GATE_STRESS_COMMAND_SECONDS,
            unproductive_seconds=settings.GATE_UNPRODUCTIVE_SECONDS,
            data_seconds=settings.GATE_DATA_SECONDS,
            data_bytes_per_second=settings.GATE_DATA_BYTES_PER_SECOND,
            content_memory_bytes=settings.GATE_CONTENT_MEMORY_BYTES,
            tls_handshakes=settings.GATE_TLS_HANDSHAKES,
            tls_handshake_seconds=settings.GATE_TLS_HANDSHAKE_SECONDS,
            login_failures_per_session=settings.GATE_LOGIN_FAILURES,
            login_failures_per_address=settings.GATE_LOGIN_FAILURES_PER_ADDRESS,
            login_window_seconds=settings.GATE_LOGIN_WINDOW_SECONDS,
            login_delay_seconds=settings.GATE_LOGIN_DELAY_SECONDS,
            login_delay_maximum_seconds=settings.GATE_LOGIN_DELAY_MAXIMUM_SECONDS,
            drain_seconds=settings.GATE_DRAIN_SECONDS,
        )

    @property
    def watch_seconds(self) -> float:
        """How often sessions are looked at for having taken too long."""
        return min(1.0, self.command_seconds / 4, self.stress_command_seconds / 4, self.data_seconds / 4)
