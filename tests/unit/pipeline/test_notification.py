"""What S3's messages tell, in whatever they are wrapped, and however they are damaged."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.notification import ObjectEvent, Other, Unreadable, read_messages, sequencer_of


def record(key="ann/1.jpg", sequencer="0055AED6DCD90281E5", name="ObjectCreated:Put", bucket="photos", **about):
    return {
        "eventVersion": "2.1",
        "eventName": name,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "sequencer": sequencer, **about}},
    }


def heard(*texts):
    file = io.BytesIO(b"".join(text if isinstance(text, bytes) else text.encode() for text in texts))
    return [(number, told) for number, telling in read_messages(file) for told in telling]


def line(message):
    return json.dumps(message) + "\n"


SQS = {"MessageId": "1", "Body": json.dumps({"Records": [record()]})}
SNS = {"Type": "Notification", "Message": json.dumps({"Records": [record()]})}


@pytest.mark.parametrize(
    "message",
    [
        record(),
        {"Records": [record()]},
        SQS,
        SNS,
        {"Body": json.dumps(SNS)},
        {"Messages": [SQS]},
        {"Records": [{"EventSource": "aws:sns", "Sns": SNS}]},
        {"Records": [{"eventSource": "aws:sqs", "body": json.dumps({"Records": [record()]})}]},
        [SQS],
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_one_event_in_all_its_wrappings(message, indent):
    ((number, event),) = heard(json.dumps(message, indent=indent))
    assert number == 1
    assert event == ObjectEvent(
        bucket="photos", key="ann/1.jpg", sequencer="0055AED6DCD90281E5".zfill(32), deleted=False, version_id=None
    )


def test_keys_are_url_encoded_and_versions_come_along():
    ((_, event),) = heard(line(record(key="red+flower/%C3%A4%2B1.jpg", versionId="v1", name="s3:ObjectRemoved:Delete")))
    assert (event.key, event.version_id, event.deleted) == ("red flower/ä+1.jpg", "v1", True)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ObjectCreated:CompleteMultipartUpload", False),
        ("ObjectRemoved:DeleteMarkerCreated", True),
        ("LifecycleExpiration:Delete", True),
        ("ObjectTagging:Put", None),
        ("ObjectRestore:Completed", None),
    ],
)
def test_only_what_comes_and_goes_is_an_event(name, kind):
    ((_, told),) = heard(line(record(name=name)))
    assert isinstance(told, Other) if kind is None else told.deleted is kind


def test_a_test_message_says_nothing():
    assert heard(
        line({"Service": "Amazon S3", "Event": "s3:TestEvent"}), line({"Body": '{"Event": "s3:TestEvent"}'})
    ) == [
        (1, Other()),
        (2, Other()),
    ]


BAD = [
    "{",
    "7",
    '"x"',
    "null",
    "[" * 100_000,
    '{"Body": "no json"}',
    '{"Body": 7}',
    '{"Records": [{"eventName": "ObjectCreated:Put"}]}',
    line(record(sequencer="12G")),
    line(record(sequencer="")),
    line(record(sequencer=7)),
    line(record(sequencer="1" * 33)),
    line(record(bucket="NO BUCKET")),
    line(record(key="%FF/1.jpg")),
    line(record(key="a%00b")),
    line(record(key="")),
    line(record(key=["k"])),
    line({**record(), "eventName": 7}),
    line({"s3": 1, "eventName": "ObjectCreated:Put"}),
]


@pytest.mark.parametrize("text", BAD)
def test_a_message_that_cannot_be_read_is_named_and_costs_itself_alone(text):
    good = line(record())
    told = heard(good, text.rstrip("\n") + "\n", good)
    assert [number for number, _ in told] == [1, 2, 3]
    assert [type(each) for _, each in told] == [ObjectEvent, Unreadable, ObjectEvent]
    reason = told[1][1].reason
    assert reason.isprintable()
    assert reason.endswith(".")
    assert len(reason) < 300


def test_messages_inside_of_each_other_end_somewhere():
    message = {"Records": [record()]}
    for _ in range(20):
        message = {"Body": message}
    ((_, told),) = heard(line(message))
    assert "without end" in told.reason


def test_one_bad_record_leaves_its_neighbours():
    told = [each for _, each in heard(line({"Records": [record(), record(bucket="X"), record(key="b")]}))]
    assert [type(each) for each in told] == [ObjectEvent, Unreadable, ObjectEvent]


def test_a_first_line_that_is_cut_off_does_not_take_the_others_along():
    assert [type(told) for _, told in heard('{"Records": [{"ev\n', line(record()))] == [Unreadable, ObjectEvent]


def test_several_printed_answers_after_each_other_are_read():
    text = json.dumps({"Messages": [SQS]}, indent=4) + "\n" + json.dumps({"Messages": [SQS, SQS]}, indent=4)
    assert [number for number, _ in heard(text)] == [1, 2, 2]
    assert [type(told) for _, told in heard(text + "\n{ cut")] == [ObjectEvent] * 3 + [Unreadable]


@given(one=st.integers(0, 2**80), other=st.integers(0, 2**80), zeros=st.integers(0, 3))
def test_sequencers_compare_as_the_numbers_that_they_are(one, other, zeros):
    first, second = sequencer_of("0" * zeros + f"{one:x}"), sequencer_of(f"{other:X}")
    assert (first < second, first == second) == (one < other, one == other)
