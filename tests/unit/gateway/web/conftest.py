"""What the tests of connections stand on."""

import pytest

from tests.unit.gateway.web.in_memory import Rooms


@pytest.fixture
async def rooms():
    """One file, `f-1`, at seq 1."""
    async with Rooms({"f-1": 1}) as one:
        yield one
