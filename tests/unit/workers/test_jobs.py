import asyncio
from datetime import timedelta

import pytest

from gateway.model import FileId, FileRecord, Job, Status
from tests.unit.gateway.fakes import NOW, file_state
from workers import jobs
from workers.jobs import CLOCKS_DIFFER, MIN_FILES_PER_PAGE, PAGE_JOBS, Jobs

DAY = timedelta(days=1)


class MediaConvert:
    """An account with these jobs, newest first; counts who asks."""

    def __init__(self, *made):
        self.made = made
        self.calls = []
        self.at_s = []

    def _called(self, operation):
        self.calls.append(operation)
        self.at_s.append(asyncio.get_running_loop().time())

    async def get_job(self, **query):
        self._called("get_job")
        return {"Job": next(job for job in self.made if job["Id"] == query["Id"])}

    async def list_jobs(self, **query):
        assert (PAGE_JOBS, "DESCENDING") == (query["MaxResults"], query["Order"])
        self._called("list_jobs")
        begin = int(query.get("NextToken", "0"))
        end = begin + PAGE_JOBS
        page = {"Jobs": list(self.made[begin:end])}
        return page | ({"NextToken": str(end)} if self.made[end:] else {})

    async def search_jobs(self, **query):
        assert (PAGE_JOBS, "DESCENDING") == (query["MaxResults"], query["Order"])
        self._called("search_jobs")
        return {
            "Jobs": [job for job in self.made if job["source"] == query["InputFile"]]
        }


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(jobs, "CALLS_PER_SECOND", 10_000.0)


def silent(number, *, attempt=1, known=(), **changes):
    state = file_state(
        id=FileId(f"f-{number}"), status=Status.CONVERTING, attempt=attempt, **changes
    )
    heard = {job_id: Job(attempt=attempt, occurred_at=NOW) for job_id in known}
    return FileRecord(state=state, jobs=heard)


def job(number, *, attempt=1, made_at=NOW, **changes):
    file_id = f"f-{number}"
    metadata = {"file_id": file_id, "attempt": str(attempt)}
    return {
        "Id": f"j-{number}-{attempt}",
        "source": file_id,
        "UserMetadata": metadata,
        "CreatedAt": made_at,
    } | changes


def asking(account):
    return Jobs(account, lambda state: str(state.id))


async def test_many_silent_jobs_cost_a_call_for_twenty():
    account = MediaConvert(*(job(number) for number in range(60)))

    listed = await asking(account).listed([silent(number) for number in range(60)])

    assert ["list_jobs"] * 3 == account.calls
    assert [f"j-{number}-1" for number in range(60)] == [
        listed[FileId(f"f-{number}")]["Id"] for number in range(60)
    ]


async def test_a_few_silent_jobs_are_not_worth_a_page():
    account = MediaConvert(job(1), job(2))

    listed = await asking(account).listed([silent(1)] * (MIN_FILES_PER_PAGE - 1))

    assert {} == listed
    assert [] == account.calls


async def test_pages_of_others_are_given_up_before_they_cost_more_than_they_save():
    others = [job(number) for number in range(1000, 1200)]
    files = [silent(number) for number in range(2 * MIN_FILES_PER_PAGE)]
    account = MediaConvert(*others, *(job(number) for number in range(len(files))))

    assert {} == await asking(account).listed(files)

    assert 2 == len(account.calls)


async def test_jobs_older_than_the_files_say_that_there_is_none():
    before = NOW - CLOCKS_DIFFER - timedelta(seconds=1)
    files = [silent(number) for number in range(3 * MIN_FILES_PER_PAGE)]
    old = [job(number, made_at=before) for number in range(1000, 1200)]
    account = MediaConvert(job(3), *old)

    listed = await asking(account).listed(files)

    assert 1 == len(account.calls)
    assert {file.state.id for file in files} == set(listed)
    assert ["f-3"] == [file_id for file_id, found in listed.items() if found]


async def test_of_a_job_that_was_heard_of_no_list_says_that_it_is_not_there():
    files = [silent(number, known=[f"j-{number}-1"]) for number in range(20)]

    listed = await asking(MediaConvert(job(3))).listed(files)

    assert {FileId("f-3"): job(3)} == listed


async def test_the_newest_job_of_the_attempt_counts():
    newer, older = job(1, Id="newer"), job(1, Id="older", made_at=NOW - DAY)
    files = [silent(1), silent(2, attempt=2), silent(3, known=["j-3-9"]), silent(4)]
    account = MediaConvert(newer, older, job(2), job(3, attempt=9), job("x"))

    listed = await asking(account).listed(files)

    assert {"f-1": newer, "f-2": None, "f-3": account.made[3], "f-4": None} == listed


async def test_one_job_that_was_heard_of_is_got_and_an_unknown_one_searched_for():
    account = MediaConvert(job(1), job(2))
    asked = asking(account)

    assert job(1) == await asked.of(silent(1, known=["j-1-1"]))
    assert job(2) == await asked.of(silent(2))
    assert await asked.of(silent(3)) is None

    assert ["get_job", "search_jobs", "search_jobs"] == account.calls


async def test_calls_are_apart_and_not_in_step(monkeypatch):
    monkeypatch.setattr(jobs, "CALLS_PER_SECOND", 50.0)
    account = MediaConvert(job(1))
    asked = asking(account)
    began_s = asyncio.get_running_loop().time()

    await asyncio.gather(*(asked.of(silent(1, known=["j-1-1"])) for _ in range(20)))

    assert account.at_s[-1] - began_s >= 19 * 0.5 / 50
