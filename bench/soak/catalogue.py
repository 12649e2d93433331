"""The parts of the soak, in the order they are run."""

from bench.soak.churn import CHURN
from bench.soak.kills import KILLS
from bench.soak.part import Part

PARTS: tuple[Part, ...] = (CHURN, KILLS)
