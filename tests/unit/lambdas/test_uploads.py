import unicodedata

import pytest

from lambdas.uploads import Upload, uploads_in
from tests.unit.lambdas.standins import (
    BUCKET,
    KEY,
    as_sns_text,
    eventbridge_event,
    in_sns,
    in_sqs,
    put_event,
    vector,
)

HOLIDAY = "여름 휴가 (1)+final 100%.mp4"

WRAPPINGS = {
    "bare": lambda event: event,
    "sqs": in_sqs,
    "sns": in_sns,
    "sns in sqs": lambda event: in_sqs(as_sns_text(event)),
}


def only_upload(event):
    (upload,), problems = uploads_in(event)
    assert [] == problems
    return upload


def problems_of(event):
    return [str(problem) for problem in uploads_in(event)[1]]


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("event", [put_event(), eventbridge_event()], ids=["s3", "eb"])
def test_an_upload_is_found_in_every_wrapping(wrap, event):
    upload = only_upload(wrap(event))

    assert f"s3://{BUCKET}/{KEY}" == upload.uri
    assert 10485760 == upload.size_bytes
    assert "0055AED6DCD90281E5" == upload.sequencer


def test_eventbridge_of_s3_in_sns_in_sqs_is_the_deepest_that_is_read():
    event = eventbridge_event()
    for _ in range(6):
        event = as_sns_text(event)

    assert ["more than 4 wrappers around an event"] == problems_of(event)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_notification_key_is_decoded_exactly_once(form):
    key = "video/origin/" + unicodedata.normalize(form, HOLIDAY)

    assert key == only_upload(put_event(key)).key


def test_the_key_of_aws_own_sample_is_decoded():
    event = vector("s3-02-put-korean-space-plus")

    assert "video/origin/여름 휴가 (1)+final.mp4" == only_upload(event).key


def test_a_key_that_looks_encoded_after_decoding_stays_as_it_is():
    assert (
        "video/origin/a%2Bb+c.mp4"
        == only_upload(put_event("video/origin/a%2Bb+c.mp4")).key
    )


def test_slashes_may_be_encoded_too():
    event = put_event()
    event["Records"][0]["s3"]["object"]["key"] = KEY.replace("/", "%2F")

    assert KEY == only_upload(event).key


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_eventbridge_key_is_not_decoded(form):
    key = "video/origin/" + unicodedata.normalize(form, HOLIDAY) + "%2B+"

    assert key == only_upload(eventbridge_event(key)).key


@pytest.mark.parametrize("name", ["s3-01-put", "s3-03-post", "s3-05-copy"])
def test_every_way_to_create_an_object_is_an_upload(name):
    upload = only_upload(vector(name))

    assert KEY == upload.key
    assert "2025-11-22T00:00:00.512Z" == upload.occurred_at


def test_several_records_are_several_uploads_in_order():
    event = put_event("video/origin/a.mp4")
    event["Records"] += put_event("video/origin/b.mp4")["Records"]

    uploads, problems = uploads_in(in_sqs(event, put_event("video/origin/c.mp4")))

    keys = [upload.key.removeprefix("video/origin/") for upload in uploads]
    assert ["a.mp4", "b.mp4", "c.mp4"] == keys
    assert [] == problems


@pytest.mark.parametrize("wrap", WRAPPINGS.values(), ids=WRAPPINGS)
def test_the_test_event_is_no_upload_and_no_problem(wrap):
    assert ([], []) == uploads_in(wrap(vector("s3-07-test-event")))


def test_other_news_about_a_bucket_is_ignored():
    removed, tagged = put_event(), eventbridge_event()
    removed["Records"][0]["eventName"] = "ObjectRemoved:Delete"
    tagged["detail-type"] = "Object Tags Added"

    assert ([], []) == uploads_in(in_sqs(removed, tagged))


def test_unknown_fields_and_a_newer_minor_version_do_not_matter():
    event = put_event(novelty={"a": 1})
    event["Records"][0]["eventVersion"] = "2.9"
    event["Novelty"] = []

    assert KEY == only_upload(event).key


def test_an_unreadable_record_does_not_hide_the_others():
    batch = in_sqs(put_event(), "x", put_event("video/origin/b.mp4"))
    batch["Records"][1]["body"] = "not json"

    uploads, problems = uploads_in(batch)

    assert 2 == len(uploads)
    assert ["SQS body: not JSON"] == list(map(str, problems))


def broken(**parts):
    event = put_event()
    record = event["Records"][0]
    for path, value in parts.items():
        *parents, last = path.split("__")
        place = record
        for parent in parents:
            place = place[parent]
        place[last] = value
    return event


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (None, "an event is an object, not NoneType"),
        ([], "an event is an object, not list"),
        ({}, "no known event has the fields []"),
        ({"hello": 1}, "no known event has the fields ['hello']"),
        ({"Records": ["x"]}, "Records[]: not an object"),
        (
            {"Records": [{"eventSource": "aws:kinesis"}]},
            "Records[].eventSource: unknown, 'aws:kinesis'",
        ),
        ({"Records": [{"EventSource": "aws:sns"}]}, "SNS Message: not JSON"),
        (as_sns_text({}) | {"Message": 7}, "SNS Message: not JSON"),
        (as_sns_text({}) | {"Message": "[" * 100_000}, "SNS Message: not JSON"),
        (broken(s3__object__key=""), "s3.object.key: missing, or not text"),
        (broken(s3__object=None), "s3.object.key: missing, or not text"),
        (broken(s3__object__key="\ud800.mp4"), "s3.object.key: holds half a character"),
        (broken(s3__bucket__name=7), "s3.bucket.name: missing, or not text"),
        (broken(eventTime="soon"), "the event's time is no time: 'soon'"),
        (
            broken(eventTime="9999-12-31T23:59:59-14:00"),
            "the event's time is no time: '9999-12-31T23:59:59-14:00'",
        ),
    ],
)
def test_an_unknown_shape_is_a_clear_error(event, problem):
    assert [problem] == problems_of(event)


def test_one_event_has_one_cause_and_another_write_has_another():
    first = only_upload(put_event())

    assert first.cause == only_upload(put_event()).cause
    assert first.cause == only_upload(in_sqs(put_event())).cause
    assert first.cause != only_upload(put_event(sequencer="0055AED6DCD90281E6")).cause
    assert first.cause != only_upload(put_event("video/origin/b.mp4")).cause


def test_no_two_uploads_share_a_cause_however_their_parts_are_cut():
    """A key may hold any character, also one that could stand between parts."""
    letters = 'a\n\0",/| '
    parts = [
        (bucket, key, sequencer)
        for bucket in ("b", "b\n", 'b"')
        for key in (one + other for one in letters for other in letters)
        for sequencer in ("s", "\ns", ',"s')
    ]
    causes = {
        Upload(bucket, key, 1, "2026-01-02T03:04:05.000Z", sequencer).cause
        for bucket, key, sequencer in parts
    }

    assert len(set(parts)) == len(causes)


def test_an_event_without_sequencer_is_told_apart_by_content_and_time():
    event = put_event()
    del event["Records"][0]["s3"]["object"]["sequencer"]

    assert (
        "d41d8cd98f00b204e9800998ecf8427e@2025-11-22T00:00:00.512Z"
        == only_upload(event).sequencer
    )


@pytest.mark.parametrize("size", [None, "10", True])
def test_a_size_that_is_no_number_is_unknown(size):
    assert only_upload(put_event(size=size)).size_bytes is None
