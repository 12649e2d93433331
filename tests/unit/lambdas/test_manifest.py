from datetime import UTC, datetime

import boto3
import pytest
from botocore.parsers import create_parser

from lambdas.errors import NoPlaylistError
from lambdas.manifest import (
    attempt_of,
    derived_master,
    manifest_from_event,
    manifest_from_job,
    named_master,
    with_variants,
)
from lambdas.playlist import parse_master
from tests.unit.lambdas.standins import (
    BUCKET,
    FILE_ID,
    JOB_ID,
    MASTER,
    MASTER_PLAYLIST,
    VECTORS,
    vector,
)

FOLDER = MASTER.rpartition("/")[0]


def complete(name="mediaconvert-06-complete-hls"):
    return vector(name)["detail"]


def from_event(detail):
    return manifest_from_event(
        detail, master_playlist=MASTER, occurred_at="2025-11-22T00:00:52.118Z"
    )


def got_job():
    """The answer of GetJob, parsed by botocore as a client would."""
    model = boto3.client("mediaconvert").meta.service_model
    shape = model.operation_model("GetJob").output_shape
    body = (VECTORS / "get-job-response-complete.json").read_bytes()
    answer = {"status_code": 200, "headers": {}, "body": body}
    return create_parser("rest-json").parse(answer, shape)["Job"]


def derived(detail):
    return derived_master(detail, output_prefix="video/hls/", file_id=FILE_ID)


def without_paths(detail):
    """As accelerated jobs came: no paths, durations 0."""
    (group,) = detail["outputGroupDetails"]
    del group["playlistFilePaths"]
    for output in group["outputDetails"]:
        del output["outputFilePaths"]
        output["durationInMs"] = 0
    return detail


def rendition(height, width, **known):
    return {
        "playlist": f"{FOLDER}/master_{height}.m3u8",
        "width": width,
        "height": height,
        "bandwidth": None,
        "average_bandwidth": None,
        "codecs": None,
        "frame_rate": None,
        **known,
    }


LADDER = [rendition(1080, 1920), rendition(720, 1280), rendition(480, 854)]


def test_a_complete_event_is_the_whole_manifest():
    expected = {
        "job_id": JOB_ID,
        "attempt": 1,
        "occurred_at": "2025-11-22T00:00:52.118Z",
        "master_playlist": MASTER,
        "duration_ms": 120041,
        "renditions": LADDER,
    }

    assert MASTER == named_master(complete())
    assert expected == from_event(complete())


def test_a_getjob_answer_makes_the_manifest_the_event_would_have_made():
    late = {**from_event(complete()), "occurred_at": "2025-11-22T00:00:52.000Z"}

    assert late == manifest_from_job(got_job())


def test_thumbnails_are_no_renditions():
    detail = complete("mediaconvert-08-complete-hls-and-thumbnails")

    assert LADDER == from_event(detail)["renditions"]


def test_the_hls_group_may_come_after_others():
    detail = complete("mediaconvert-08-complete-hls-and-thumbnails")
    detail["outputGroupDetails"].reverse()

    assert MASTER == named_master(detail)
    assert 120041 == from_event(detail)["duration_ms"]


def test_both_spellings_of_the_quality_fields_are_passed_over():
    detail = complete()
    for output in detail["outputGroupDetails"][0]["outputDetails"]:
        video = output["videoDetails"]
        output["videoDetails"] = {
            "widthInPx": video["widthInPx"],
            "heightInPx": video["heightInPx"],
            "averageQVBRScore": 7.4,
            "minimumQVBRScore": 6.9,
            "novelty": {},
        }

    assert LADDER == from_event(detail)["renditions"]


def test_a_complete_event_without_paths_still_names_its_master():
    detail = without_paths(complete())
    detail["userMetadata"]["bucket"] = BUCKET

    assert named_master(detail) is None
    assert MASTER == derived(detail)
    assert [] == from_event(detail)["renditions"]
    assert from_event(detail)["duration_ms"] is None


def test_the_bucket_may_be_known_from_a_rendition_only():
    detail = complete()
    detail["outputGroupDetails"][0]["playlistFilePaths"] = []

    assert MASTER == derived(detail)


@pytest.mark.parametrize(
    "groups", [None, [], "x", [7], [{"type": ["HLS_GROUP"]}], [{"type": {}}]]
)
def test_a_complete_event_without_groups_is_derived_from_the_bucket(groups):
    detail = {"userMetadata": {"bucket": BUCKET}, "outputGroupDetails": groups}

    assert MASTER == derived(detail)


@pytest.mark.parametrize(
    "detail",
    [
        {},
        {"userMetadata": None},
        {"userMetadata": {"bucket": ""}},
        {"outputGroupDetails": [{"outputDetails": [{"outputFilePaths": ["x"]}]}]},
        {
            "userMetadata": {"bucket": BUCKET},
            "outputGroupDetails": [{"type": "FILE_GROUP"}],
        },
    ],
)
def test_where_no_master_can_be_named_that_is_an_error(detail):
    with pytest.raises(NoPlaylistError):
        derived(detail)


@pytest.mark.parametrize(
    "paths",
    [None, "s3://b/k.m3u8", [7], ["s3://b/k.mpd"], ["https://b/k.m3u8"]],
)
def test_only_an_hls_playlist_in_s3_is_a_master(paths):
    detail = {"outputGroupDetails": [{"playlistFilePaths": paths}]}

    assert named_master(detail) is None


@pytest.mark.parametrize("video", [None, [], {}, {"widthInPx": "1", "heightInPx": 0}])
def test_a_rendition_without_a_size_stays(video):
    detail = complete()
    detail["outputGroupDetails"][0]["outputDetails"][0]["videoDetails"] = video

    unsized = {**rendition(1080, None), "height": None}
    assert unsized == from_event(detail)["renditions"][0]


@pytest.mark.parametrize(
    ("metadata", "attempt"),
    [
        ({"attempt": "2"}, 2),
        ({}, 1),
        (None, 1),
        ({"attempt": "0"}, 1),
        ({"attempt": "-1"}, 1),
        ({"attempt": "x"}, 1),
        ({"attempt": 2}, 1),
    ],
)
def test_the_attempt_is_the_jobs_own_or_the_first(metadata, attempt):
    assert attempt == attempt_of(metadata)


def test_the_playlist_fills_what_mediaconvert_did_not_say():
    manifest = with_variants(from_event(complete()), parse_master(MASTER_PLAYLIST))

    assert (
        rendition(
            720,
            1280,
            bandwidth=3405600,
            average_bandwidth=2444618,
            codecs="avc1.4d401f,mp4a.40.2",
            frame_rate=29.97,
        )
        == manifest["renditions"][1]
    )
    assert 3 == len(manifest["renditions"])
    assert 120041 == manifest["duration_ms"]


def test_what_mediaconvert_said_stays():
    text = MASTER_PLAYLIST.replace("1920x1080", "608x1080").replace("_480", "_other")

    filled = with_variants(from_event(complete()), parse_master(text))

    assert 1920 == filled["renditions"][0]["width"]
    assert LADDER[2] == filled["renditions"][2]


def test_renditions_nobody_named_are_taken_from_the_playlist():
    bare = from_event(without_paths(complete()))

    filled = with_variants(bare, parse_master(MASTER_PLAYLIST))

    assert [r["playlist"] for r in LADDER] == [
        r["playlist"] for r in filled["renditions"]
    ]
    assert [1080, 720, 480] == [r["height"] for r in filled["renditions"]]


@pytest.mark.parametrize(
    "uri",
    [
        "https://elsewhere.example/v.m3u8",
        "//elsewhere.example/v.m3u8",
        "../other/v.m3u8",
        "/v.m3u8",
        "v.m3u8?a=b.m3u8",
        "v.ts",
        ".m3u8",
    ],
)
def test_a_variant_elsewhere_is_no_rendition(uri):
    text = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{uri}\n"

    bare = from_event(without_paths(complete()))

    assert [] == with_variants(bare, parse_master(text))["renditions"]


def test_a_destination_that_is_a_folder_takes_its_name_from_the_input():
    job = got_job()
    group = job["Settings"]["OutputGroups"][0]
    group["OutputGroupSettings"]["HlsGroupSettings"]["Destination"] = f"{FOLDER}/"

    manifest = manifest_from_job(job)

    assert f"{FOLDER}/{FILE_ID}.m3u8" == manifest["master_playlist"]
    assert f"{FOLDER}/{FILE_ID}_1080.m3u8" == manifest["renditions"][0]["playlist"]


def test_the_details_of_a_job_are_those_of_its_hls_group():
    job = got_job()
    thumbnails = {"OutputGroupSettings": {"FileGroupSettings": {}}, "Outputs": [{}]}
    job["Settings"]["OutputGroups"].insert(0, thumbnails)
    job["OutputGroupDetails"].insert(0, {"OutputDetails": [{"DurationInMs": 7}]})

    assert LADDER == manifest_from_job(job)["renditions"]


def test_a_job_without_details_completes_all_the_same():
    job = got_job()
    del job["OutputGroupDetails"]

    manifest = manifest_from_job(job)

    assert manifest["duration_ms"] is None
    assert [r["playlist"] for r in LADDER] == [
        r["playlist"] for r in manifest["renditions"]
    ]


def test_the_attempt_and_end_of_a_job_are_its_own():
    job = got_job()
    job["UserMetadata"]["attempt"] = "3"
    job["Timing"]["FinishTime"] = datetime(2025, 11, 22, 1, 2, 3, tzinfo=UTC)

    manifest = manifest_from_job(job)

    assert 3 == manifest["attempt"]
    assert "2025-11-22T01:02:03.000Z" == manifest["occurred_at"]


def broken_job(**parts):
    job = got_job()
    job.update(parts)
    return job


def hls(destination):
    settings = {"HlsGroupSettings": {"Destination": destination}}
    return {"OutputGroups": [{"OutputGroupSettings": settings}]}


@pytest.mark.parametrize(
    "parts",
    [
        {"Timing": {}},
        {"Settings": {}},
        {"Settings": {"OutputGroups": [{}]}},
        {"Settings": hls("")},
        {"Settings": hls("s3://b/folder/")},
        {"Settings": {**hls("s3://b/folder/"), "Inputs": [{}]}},
    ],
)
def test_a_job_that_left_no_playlist_is_an_error(parts):
    with pytest.raises(NoPlaylistError, match=JOB_ID):
        manifest_from_job(broken_job(**parts))
