"""Every part of the soak, in its short size: the figures hold there, too."""

import pytest

from bench.machine import raise_open_files
from bench.soak.catalogue import PARTS
from bench.soak.part import Size


@pytest.mark.timeout(240)
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
async def test_short(part):
    raise_open_files()

    outcome = await part.run(Size.SHORT)

    assert outcome.figures
    assert [] == [str(one) for one in outcome.figures if not one.holds]
