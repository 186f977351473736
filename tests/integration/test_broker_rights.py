"""What the broker's user may do: what messages need. Everything else here must be refused.

That it is enough is shown by all the tests that run workers: they do it as this user.
"""

import pytest
import redis

from pictograph.stack.servers import BROKER_RIGHTS
from pipeline.ledger.publish import INGEST_QUEUE
from workers.app import create_app
from workers.redriver import EPOCH_KEY
from workers.send import ring

FOREIGN = "sessions:of-somebody-else"


@pytest.fixture
def admin(endpoints):
    client = redis.Redis.from_url(endpoints.broker_admin_url)
    client.set(FOREIGN, "secret")
    yield client
    client.flushall()
    client.close()


@pytest.fixture
def user(endpoints, admin):
    with redis.Redis.from_url(endpoints.broker_url) as client:
        yield client


DANGEROUS = [
    "CONFIG GET *",
    "CONFIG SET dir /tmp",
    "CONFIG REWRITE",
    "KEYS *",
    "SCAN 0",
    "RANDOMKEY",
    "DBSIZE",
    "FLUSHALL",
    "FLUSHDB",
    "EVAL return(1) 0",
    "EVAL_RO return(1) 0",
    "FUNCTION LIST",
    "FCALL f 0",
    "SCRIPT FLUSH",
    "SCRIPT KILL",
    "MODULE LIST",
    "SHUTDOWN NOSAVE",
    "SAVE",
    "BGSAVE",
    "REPLICAOF 127.0.0.1 1",
    "MIGRATE 127.0.0.1 1 unacked 0 1",
    "MONITOR",
    "SLOWLOG GET",
    "LATENCY LATEST",
    "CLIENT LIST",
    "CLIENT KILL TYPE normal",
    "CLIENT PAUSE 1",
    "ACL LIST",
    "ACL WHOAMI",
    "ACL SETUSER me on nopass ~* &* +@all",
    "PUBLISH /0.celery.pidbox x",
    "SUBSCRIBE x",
    "PSUBSCRIBE *",
    "PUBSUB CHANNELS",
    "LRANGE ingest 0 -1",
    "SORT unacked",
    "DUMP unacked",
    "RESTORE unacked 0 x",
    "RENAME unacked ingest",
    "COPY unacked ingest",
    "OBJECT ENCODING unacked",
    "SWAPDB 0 1",
    "SELECT 1",
    "MOVE unacked 1",
    "XADD ingest * a b",
    f"GET {FOREIGN}",
    f"SET {FOREIGN} x",
    f"DEL {FOREIGN}",
    f"LPUSH {FOREIGN} x",
    f"SADD {FOREIGN} x",
    "SADD _kombu.other x",
    "LPUSH celery x",
]


@pytest.mark.parametrize("command", DANGEROUS)
def test_what_messages_do_not_need_is_refused(user, command):
    with pytest.raises(redis.exceptions.NoPermissionError):
        user.execute_command(*command.split())


def test_nobody_comes_in_without_a_name(endpoints):
    with redis.Redis.from_url("redis://" + endpoints.broker_url.partition("@")[2]) as nobody:
        with pytest.raises(redis.exceptions.AuthenticationError):
            nobody.ping()
        with pytest.raises(redis.exceptions.AuthenticationError):
            nobody.execute_command("AUTH", "default", "")


def test_a_script_can_do_no_more_than_its_user(user, admin):
    """Releasing a lock is a script, so scripts cannot be refused altogether."""
    for body in (f"return redis.call('GET', '{FOREIGN}')", "return redis.call('CONFIG', 'GET', '*')"):
        with pytest.raises(redis.exceptions.ResponseError):
            user.evalsha(user.script_load(body), 0)
    assert admin.get(FOREIGN) == b"secret"


def test_what_messages_need_is_granted(user, admin, ledger_settings):
    app = create_app(ledger_settings)
    ring(app, "ingest", INGEST_QUEUE, 1)
    ring(app, "annotate", "annotate.some-model-0", 2)
    app.close()
    assert (admin.llen(INGEST_QUEUE), admin.llen("annotate.some-model-0")) == (1, 1)
    assert user.set(EPOCH_KEY, "1")
    assert user.ping()
    assert "valkey_version" in user.info("server")
    with user.lock("unacked_mutex", timeout=5):
        assert admin.exists("unacked_mutex")


def test_rights_begin_with_none(admin):
    assert BROKER_RIGHTS.split().index("-@all") < BROKER_RIGHTS.split().index("+ping")
    for line in admin.acl_list():
        name = line.split()[1]
        assert " off " in line if name == "default" else name in ("pictograph", "admin")
