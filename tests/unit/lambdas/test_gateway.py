import base64
import json
import urllib.request
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from lambdas import gateway
from lambdas.errors import GatewayUnavailableError
from lambdas.gateway import Gateway, signature
from lambdas.settings import GatewaySettings
from tests.unit.lambdas.standins import FILE_ID, SECRET, SETTINGS

ANSWER = '{"outcome":"applied","seq":3}'
KEY = base64.b64decode(SECRET.removeprefix("whsec_"))


@pytest.mark.parametrize("body", ["", "{}", '{"name":"여름"}'])
def test_the_signature_is_that_of_standard_webhooks(body):
    moment = datetime(2025, 11, 22, tzinfo=UTC)
    timestamp_s = int(moment.timestamp())

    expected = Webhook(SECRET).sign("eb-1-a", moment, body)

    assert expected == signature(KEY, "eb-1-a", timestamp_s, body.encode())


@pytest.fixture
def sent(monkeypatch):
    """What leaves the process, taken at the last step before the socket."""
    posts = []

    def take(request):
        posts.append((request.get_header("Webhook-id"), request.data))
        return ANSWER

    monkeypatch.setattr(gateway, "_answer_to", take)
    return posts


def post(cause="eb-1", **report):
    Gateway(GatewaySettings.from_env(SETTINGS)).report(FILE_ID, cause, report)


def test_one_event_makes_the_same_bytes_under_the_same_id(sent):
    post(type="progress", percent=4)
    post(percent=4, type="progress")

    assert sent[0] == sent[1]
    assert b'{"percent":4,"type":"progress"}' == sent[0][1]


def test_another_body_never_travels_under_the_same_id(sent):
    """The gateway answers 422 to that, and the report would be lost."""
    post(type="progress", percent=4)
    post(type="progress", percent=5)
    post("eb-2", type="progress", percent=5)

    ids = [webhook_id for webhook_id, _ in sent]
    assert 3 == len(set(ids))
    assert ids[0].startswith("eb-1-")
    assert ids[1].startswith("eb-1-")


def test_the_body_is_utf_8_json(sent):
    post(error={"message": "여름"})

    assert {"error": {"message": "여름"}} == json.loads(sent[0][1])
    assert "여름".encode() in sent[0][1]


def test_half_a_character_does_not_lose_a_report(sent):
    post(error={"message": json.loads('"a\\ud800b"')})

    assert {"error": {"message": "a?b"}} == json.loads(sent[0][1])


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ('{"outcome":"stale","seq":3}', "stale"),
        ('{"outcome":"of a newer gateway"}', "of a newer gateway"),
        (json.dumps({"more": "x" * 10_000, "outcome": "applied"}), "applied"),
    ],
)
def test_a_report_returns_its_outcome(monkeypatch, answer, outcome):
    monkeypatch.setattr(gateway, "_answer_to", lambda _: answer)
    door = Gateway(GatewaySettings.from_env(SETTINGS))

    assert outcome == door.report(FILE_ID, "eb-1", {})


@pytest.mark.parametrize("post", [Gateway.report, Gateway.manifest])
@pytest.mark.parametrize(
    "answer",
    [
        *["", "<html>be right back</html>", '{"outcome":"appl', '"outcome"', "1"],
        *["{}", "[]", "null", '{"outcome":null}', '{"outcome":1}', '{"status":"ok"}'],
    ],
)
def test_what_no_gateway_says_is_tried_again_and_is_not_stored(
    monkeypatch, post, answer
):
    """A load balancer's page during maintenance comes with 200, too."""
    tries = []
    monkeypatch.setattr(gateway, "_answer_to", lambda _: tries.append(1) or answer)
    door = Gateway(GatewaySettings.from_env(SETTINGS), sleep=lambda _: None)

    with pytest.raises(GatewayUnavailableError, match="no gateway answered: "):
        post(door, FILE_ID, "eb-1", {})

    assert 3 == len(tries)


def test_a_long_answer_is_cut_in_a_log(sent, monkeypatch, capsys):
    said = ANSWER.replace("}", f',"more":"{"x" * 10_000}"}}')
    monkeypatch.setattr(gateway, "_answer_to", lambda _: said)

    post(type="uploaded")

    assert said[:500] == json.loads(capsys.readouterr().out)["answer"]


def test_tries_are_bounded_and_pause_in_between(monkeypatch):
    def away(_):
        raise ConnectionRefusedError

    pauses_s = []
    monkeypatch.setattr(gateway, "_answer_to", away)
    door = Gateway(GatewaySettings.from_env(SETTINGS), sleep=pauses_s.append)

    with pytest.raises(GatewayUnavailableError, match="cannot be reached"):
        door.report(FILE_ID, "eb-1", {})

    assert [0.2, 1.0] == pauses_s


def test_a_redirect_is_never_followed():
    request = urllib.request.Request("http://127.0.0.1/")

    assert gateway._NoRedirects().redirect_request(request, None, 307) is None
