"""EventBridge patterns against events as MediaConvert and S3 send them."""

from typing import Any

import pytest

from local.event_pattern import check_pattern, matches

JOB_CHANGES = {
    "source": ["aws.mediaconvert"],
    "detail-type": ["MediaConvert Job State Change"],
}
PROGRESSING: dict[str, Any] = {
    "version": "0",
    "id": "6f1d2c30-0000-4000-8000-000000000001",
    "detail-type": "MediaConvert Job State Change",
    "source": "aws.mediaconvert",
    "account": "111122223333",
    "time": "2025-11-22T00:00:04Z",
    "region": "ap-northeast-2",
    "resources": [
        "arn:aws:mediaconvert:ap-northeast-2:111122223333:jobs/1763769600123-k3p9xd"
    ],
    "detail": {
        "timestamp": 1763769604210,
        "accountId": "111122223333",
        "queue": "arn:aws:mediaconvert:ap-northeast-2:111122223333:queues/Default",
        "jobId": "1763769600123-k3p9xd",
        "status": "PROGRESSING",
        "userMetadata": {"file_id": "01934c1e-8a11-7c42-9b7e-5d2f0c6a9e10"},
    },
}
STATUS_UPDATE = {
    **PROGRESSING,
    "detail": {
        **PROGRESSING["detail"],
        "status": "STATUS_UPDATE",
        "framesDecoded": 1212,
        "jobProgress": {
            "jobPercentComplete": 37,
            "currentPhase": "TRANSCODING",
            "retryCount": 0,
        },
    },
}
COMPLETE = {
    **PROGRESSING,
    "detail": {
        **PROGRESSING["detail"],
        "status": "COMPLETE",
        "warnings": [],
        "outputGroupDetails": [
            {
                "type": "HLS_GROUP",
                "playlistFilePaths": ["s3://example-media/video/hls/x/master.m3u8"],
                "outputDetails": [],
            }
        ],
    },
}
OBJECT_CREATED = {
    "source": "aws.s3",
    "detail-type": "Object Created",
    "detail": {"reason": "PutObject"},
}


@pytest.mark.parametrize("event", [PROGRESSING, STATUS_UPDATE, COMPLETE])
def test_a_rule_for_job_changes_takes_every_status(event: dict[str, Any]):
    assert matches(JOB_CHANGES, event)
    assert not matches(JOB_CHANGES, OBJECT_CREATED)


def test_a_rule_for_some_statuses_takes_those():
    pattern = {**JOB_CHANGES, "detail": {"status": ["COMPLETE", "ERROR"]}}

    assert [False, False, True] == [
        matches(pattern, event) for event in (PROGRESSING, STATUS_UPDATE, COMPLETE)
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"detail": {"userMetadata": {"file_id": ["01934c1e"]}}}, False),
        (
            {
                "detail": {
                    "userMetadata": {
                        "file_id": ["01934c1e-8a11-7c42-9b7e-5d2f0c6a9e10"]
                    }
                }
            },
            True,
        ),
        ({"detail": {"jobProgress": {"jobPercentComplete": [37]}}}, True),
        ({"detail": {"jobProgress": {"jobPercentComplete": ["37"]}}}, False),
        ({"detail": {"jobProgress": {"retryCount": [False]}}}, False),
        ({"source": ["AWS.MediaConvert"]}, False),
        ({"source": {"deeper": ["aws.mediaconvert"]}}, False),
        ({"detail": {"nothing": [None]}}, False),
        ({"region": ["us-east-1", "ap-northeast-2"]}, True),
        ({"resources": ["elsewhere", PROGRESSING["resources"][0]]}, True),
        ({"resources": ["elsewhere"]}, False),
        ({"detail": {"status": [{"prefix": "STATUS_"}]}}, True),
        ({"detail": {"status": ["COMPLETE", {"prefix": ""}]}}, True),
        ({"detail": {"status": [{"prefix": "status_"}]}}, False),
        ({"detail": {"framesDecoded": [{"prefix": "12"}]}}, False),
    ],
)
def test_values_match_exactly(pattern: dict[str, Any], expected: bool):
    check_pattern(pattern)

    assert expected is matches(pattern, STATUS_UPDATE)


@pytest.mark.parametrize("event", [None, "text", 1, [], {}, {"source": None}])
def test_what_is_no_such_event_does_not_match(event: object):
    assert not matches(JOB_CHANGES, event)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ({}, "names no field"),
        ({"detail": {}}, "detail"),
        ({"source": "aws.mediaconvert"}, "source"),
        ({"source": []}, "source"),
        ({"detail": {"status": None}}, r"detail\.status"),
        ({"detail": {"status": [{"suffix": "ETE"}]}}, r"detail\.status"),
        ({"detail": {"status": [{"prefix": 1}]}}, r"detail\.status"),
        ({"detail": {"status": [{"prefix": "C", "suffix": "E"}]}}, r"detail\.status"),
        ({"detail": {"status": [["COMPLETE"]]}}, r"detail\.status"),
    ],
)
def test_a_pattern_that_cannot_mean_what_it_says_is_refused(
    pattern: dict[str, Any], named: str
):
    with pytest.raises(ValueError, match=named):
        check_pattern(pattern)
