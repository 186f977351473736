"""The doorbell over a line that breaks: ringing ends in the one error that callers know; a worker's hand gets free."""

from urllib.parse import urlsplit

import pytest
import redis
from pydantic import SecretStr

from pipeline.errors import ServiceDown
from pipeline.ledger.publish import INGEST_QUEUE
from pipeline.settings import Settings
from tests.chaos.proxy import Fault, FaultProxy, Kind
from workers.app import create_app
from workers.send import ring

RINGS = 600  # one answer in ten is lost; with declarations, one ring in fifty ended in an AttributeError
PATIENCE_SECONDS = 60


@pytest.fixture
def admin(endpoints):
    with redis.Redis.from_url(endpoints.broker_admin_url) as client:
        client.flushall()
        yield client
        client.flushall()


@pytest.fixture
def proxy(endpoints, admin):
    address = urlsplit(endpoints.broker_url)
    with FaultProxy((address.hostname, address.port), seed=7) as found:
        yield found


@pytest.fixture
def app(endpoints, proxy):
    port = urlsplit(endpoints.broker_url).port
    url = endpoints.broker_url.replace(f":{port}", f":{proxy.port}")
    with create_app(Settings(broker_url=SecretStr(url))) as found:
        yield found


def test_ringing_over_a_bad_line_says_that_the_broker_is_away_and_nothing_else(app, proxy, admin):
    proxy.inject(Fault(kind=Kind.RESET, share=0.1))
    failed = 0
    for number in range(1, RINGS + 1):
        try:
            ring(app, "ingest", INGEST_QUEUE, number)
        except ServiceDown:
            failed += 1
    assert proxy.bites[Kind.RESET] > RINGS // 50
    assert admin.llen(INGEST_QUEUE) >= RINGS - failed  # a lost answer may mean a message too many, and none too few


def test_the_next_ring_after_a_failure_has_a_connection_that_works(app, proxy, admin):
    ring(app, "ingest", INGEST_QUEUE, 1)
    proxy.inject(Fault(kind=Kind.RESET))
    proxy.cut()
    with pytest.raises(ServiceDown, match="broker"):
        ring(app, "ingest", INGEST_QUEUE, 2)
    proxy.heal()
    ring(app, "ingest", INGEST_QUEUE, 3)
    assert admin.llen(INGEST_QUEUE) == 2


@pytest.mark.parametrize("farewell", ["ack", "reject", "requeue"])
def test_a_hand_is_free_again_when_the_broker_does_not_hear_that_a_message_is_done(app, proxy, admin, farewell):
    """kombu asks for no message, nor looks at its connection, while the one that it may have is in hand."""
    ring(app, "ingest", INGEST_QUEUE, 1)
    with app.connection_for_read() as connection, connection.channel() as channel:
        channel.basic_qos(0, 1, False)
        taken = []
        consumer = app.amqp.TaskConsumer(channel, [app.amqp.queues[INGEST_QUEUE]], on_message=taken.append)
        consumer.consume()
        while not taken:
            connection.drain_events(timeout=PATIENCE_SECONDS)
        assert not channel.qos.can_consume()
        proxy.inject(Fault(kind=Kind.RESET))
        proxy.cut()
        with pytest.raises(connection.connection_errors):
            taken[0].ack() if farewell == "ack" else taken[0].reject(requeue=farewell == "requeue")
        assert channel.qos.can_consume()
        proxy.heal()
