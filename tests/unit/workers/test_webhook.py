"""Signatures of notices: the one that every library of Standard Webhooks is tested with."""

from base64 import b64decode

from workers.webhook import signature


def test_a_signature_is_that_of_the_published_example() -> None:
    key = b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
