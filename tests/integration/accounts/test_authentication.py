"""Who hands over mail: credentials are found by name, key, network or id, with everything acceptance needs to know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from django.utils import timezone

from accounts import authentication, database
from accounts.audit import Actor
from accounts.authentication import CredentialUses, Pool, Principal
from accounts.credentials import Issued, api_key, issue_credential, revoke_credential, rotate_credential
from accounts.models import Credential
from delivery.models import SourcePool, Stream
from tests.support.journeys import Cast, make_cast

Answer = TypeVar("Answer")
OPERATOR = Actor(name="test", is_operator=True)


@pytest.fixture
def cast(transactional_db: None) -> Cast:
    return make_cast()


@pytest.fixture
def issue(cast: Cast) -> Callable[..., Issued]:
    def issue(kind: str = "smtp", **options: Any) -> Issued:
        return issue_credential(options.pop("tenant", cast.acme), kind=kind, actor=OPERATOR, **options)

    return issue


def ask(question: Callable[[Pool], Coroutine[Any, Any, Answer]]) -> Answer:
    """Ask with a pool of its own, so that nothing is remembered from before."""

    async def answer() -> Answer:
        async with database.pool(max_size=2, name="test") as pool:
            return await question(pool)

    return asyncio.run(answer())


def log_in(issued: Issued, *, secret: str | None = None, peer: str = "192.0.2.1") -> Principal | None:
    name, right_secret = str(issued.credential.username), str(issued.secret)
    return ask(lambda pool: authentication.authenticate_smtp(pool, name, secret or right_secret, peer=peer))


def test_a_login_carries_what_acceptance_needs_to_know(cast: Cast, issue: Callable[..., Issued]) -> None:
    cast.acme.daily_limit, cast.acme.max_recipients, cast.acme.content_retention_days = 500, 7, 30
    cast.acme.save()
    issued = issue(use="mail-server", only_domain="acme.example", daily_limit=50)

    principal = log_in(issued)

    assert principal is not None
    assert (principal.tenant_id, principal.tenant_slug, principal.tenant_state) == (cast.acme.pk, "acme", "active")
    assert (principal.credential_id, principal.credential_kind) == (issued.credential.pk, "smtp")
    assert principal.credential_use == "mail-server"
    assert principal.only_domain == "acme.example"
    assert (principal.daily_limit, principal.credential_daily_limit, principal.max_recipients) == (500, 50, 7)
    assert principal.retention_days == 30
    cast.acme.keeps_content_after_delivery = False
    cast.acme.save()
    private = log_in(issued)
    assert private is not None and private.retention_days == 0
    assert principal.stream_id == Stream.objects.of(cast.acme).get(is_default=True).pk
    assert principal.pool_id is None
    assert not principal.is_test and not principal.tenant_is_system and not principal.has_rate


def test_the_streams_pool_is_used_unless_the_credential_names_one(cast: Cast, issue: Callable[..., Issued]) -> None:
    of_stream, of_credential = (SourcePool.objects.create(name=name) for name in ("one", "two"))
    bulk = Stream.objects.of(cast.acme).get(name="bulk")
    bulk.pool = of_stream
    bulk.save()

    by_stream = log_in(issue(stream_id=bulk.pk))
    by_credential = log_in(issue(stream_id=bulk.pk, pool_id=of_credential.pk))

    assert by_stream is not None and by_credential is not None
    assert (by_stream.stream_id, by_stream.pool_id) == (bulk.pk, of_stream.pk)
    assert by_credential.pool_id == of_credential.pk


def test_a_stream_of_another_tenant_is_not_followed(cast: Cast, issue: Callable[..., Issued]) -> None:
    foreign = Stream.objects.of(cast.globex).get(is_default=True)

    principal = log_in(issue(stream_id=foreign.pk))

    assert principal is not None
    assert principal.stream_id == Stream.objects.of(cast.acme).get(is_default=True).pk


@pytest.mark.parametrize("secret", ["wrong", "", "x" * 2000, "\ud800", "パスワード"])
def test_a_wrong_secret_opens_nothing(issue: Callable[..., Issued], secret: str) -> None:
    issued = issue()
    name = str(issued.credential.username)

    assert ask(lambda pool: authentication.authenticate_smtp(pool, name, secret, peer="192.0.2.1")) is None


@pytest.mark.parametrize("name", ["", "nobody.aaaaaa", "x" * 5000, "a\0b", "\ud800"])
def test_a_name_nobody_has_opens_nothing(issue: Callable[..., Issued], name: str) -> None:
    issue()

    assert ask(lambda pool: authentication.authenticate_smtp(pool, name, "secret", peer="192.0.2.1")) is None


def test_a_former_secret_opens_until_its_time_is_over(issue: Callable[..., Issued]) -> None:
    issued = issue()
    current = rotate_credential(issued.credential, actor=OPERATOR)

    assert log_in(issued, secret=current) is not None
    assert log_in(issued) is not None
    Credential.objects.filter(pk=issued.credential.pk).update(former_secret_until=timezone.now())
    assert log_in(issued, secret=current) is not None
    assert log_in(issued) is None


def test_a_credential_bound_to_networks_works_from_there_alone(issue: Callable[..., Issued]) -> None:
    issued = issue(only_networks=["192.0.2.0/24", "2001:db8::/48"])

    assert log_in(issued, peer="192.0.2.77") is not None
    assert log_in(issued, peer="2001:db8::1") is not None
    assert log_in(issued, peer="198.51.100.1") is None


def test_an_api_key_is_no_smtp_login_and_the_other_way_round(issue: Callable[..., Issued]) -> None:
    key, login = issue("api", scopes=["send"]), issue("smtp")
    as_key = [api_key(issued.credential, str(issued.secret)) for issued in (key, login)]

    principal = ask(lambda pool: authentication.authenticate_api(pool, as_key[0], peer="192.0.2.1"))
    assert principal is not None
    assert principal.scopes == {"send"}
    assert ask(lambda pool: authentication.authenticate_api(pool, as_key[1], peer="192.0.2.1")) is None
    assert log_in(key) is None


@pytest.mark.parametrize("key", ["", ".", "no-dot", "acme.abcdef.", "acme.abcdef.wrong"])
def test_what_is_no_key_opens_nothing(issue: Callable[..., Issued], key: str) -> None:
    assert ask(lambda pool: authentication.authenticate_api(pool, key, peer="192.0.2.1")) is None


def test_a_network_is_found_by_the_address_and_the_narrowest_one_counts(issue: Callable[..., Issued]) -> None:
    wide, narrow = issue("network", network="192.0.2.0/24"), issue("network", network="192.0.2.16/28")

    def found(peer: str) -> Principal | None:
        return ask(lambda pool: authentication.authenticate_network(pool, peer))

    inside, outside = found("192.0.2.20"), found("192.0.2.40")
    assert inside is not None and outside is not None
    assert inside.credential_id == narrow.credential.pk
    assert outside.credential_id == wide.credential.pk
    assert found("198.51.100.1") is None
    assert found("2001:db8::1") is None


def test_an_open_session_learns_of_changes(cast: Cast, issue: Callable[..., Issued]) -> None:
    issued = issue()
    principal = log_in(issued)
    assert principal is not None

    cast.acme.state = "suspended"
    cast.acme.save()
    suspended = ask(lambda pool: authentication.refresh(pool, principal))
    assert suspended is not None and suspended.tenant_state == "suspended"

    revoke_credential(issued.credential, actor=OPERATOR)
    assert ask(lambda pool: authentication.refresh(pool, principal)) is None


def test_many_who_ask_at_once_ask_the_database_once(issue: Callable[..., Issued]) -> None:
    issued = issue()

    async def many(pool: Pool) -> list[Principal | None]:
        name, secret = str(issued.credential.username), str(issued.secret)
        before = pool.get_stats().get("requests_num", 0)
        answers = await asyncio.gather(
            *(authentication.authenticate_smtp(pool, name, secret, peer="192.0.2.1") for _ in range(100))
        )
        assert pool.get_stats()["requests_num"] - before == 1
        return answers

    assert None not in ask(many)


def test_trouble_with_the_database_is_no_wrong_secret(issue: Callable[..., Issued]) -> None:
    issued = issue()

    async def with_a_closed_pool(pool: Pool) -> None:
        await pool.close()
        await authentication.authenticate_smtp(pool, str(issued.credential.username), "x", peer="192.0.2.1")

    with pytest.raises(Exception, match="closed"):
        ask(with_a_closed_pool)


def test_uses_are_added_up(issue: Callable[..., Issued]) -> None:
    first, second = issue().credential, issue().credential
    now = datetime.now(tz=UTC)
    earlier = now - timedelta(minutes=1)

    for moment, count in ((now, 2), (earlier, 3)):
        uses = {
            first.pk: CredentialUses(count=count, last_at=moment, last_from="192.0.2.1"),
            second.pk: CredentialUses(count=0, last_at=moment, last_from=None),
        }
        ask(lambda pool, uses=uses: authentication.write_down_uses(pool, uses))

    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.used_count, first.last_used_at, first.last_used_from) == (5, now, "192.0.2.1")
    assert (second.used_count, second.last_used_at, second.last_used_from) == (0, now, None)
