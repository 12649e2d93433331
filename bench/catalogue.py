"""Who takes part, and what is measured, in the order of the tables."""

from bench.apart import APART, RELAYED
from bench.ours import OURS, OURS_LONG_POLL, OURS_PROCESSES
from bench.peers.nchan import NCHAN, NCHAN_LONG_POLL
from bench.peers.python import PYTHON_PEERS
from bench.scenarios.apart import GATEWAYS_APART
from bench.scenarios.connect import CONNECT
from bench.scenarios.crowd import CROWD
from bench.scenarios.hot_file import HOT_FILE
from bench.scenarios.listeners import LISTENERS
from bench.scenarios.many_files import MANY_FILES
from bench.scenarios.memory import MEMORY
from bench.scenarios.paced import PACED
from bench.scenarios.processes import PROCESSES
from bench.scenarios.scenario import Scenario
from bench.scenarios.small_machine import SMALL_MACHINE
from bench.scenarios.storm import STORM
from bench.scenarios.waiting import WAITING
from bench.server import Contestant

CONTESTANTS: tuple[Contestant, ...] = (
    OURS,
    OURS_LONG_POLL,
    *OURS_PROCESSES,
    APART,
    RELAYED,
    NCHAN,
    NCHAN_LONG_POLL,
    *PYTHON_PEERS,
)

SCENARIOS: tuple[Scenario, ...] = (
    MEMORY,
    CONNECT,
    STORM,
    MANY_FILES,
    PACED,
    HOT_FILE,
    WAITING,
    CROWD,
    SMALL_MACHINE,
    PROCESSES,
    GATEWAYS_APART,
    LISTENERS,
)
