"""The parts of the soak, in the order they are run."""

from bench.soak.churn import CHURN
from bench.soak.crash_points import CRASH_POINTS
from bench.soak.deaf import LISTENER, POOLER
from bench.soak.drain import DRAIN, STORM
from bench.soak.failover import FAILOVER
from bench.soak.forged import FORGED
from bench.soak.frames import FRAMES
from bench.soak.full_disk import FULL_DISK
from bench.soak.fuzz import FUZZ
from bench.soak.guesses import GUESSES
from bench.soak.hostile import HOSTILE
from bench.soak.invariants import ANY_ORDER
from bench.soak.kills import KILLS
from bench.soak.machines import MACHINES
from bench.soak.mutation import MUTATION
from bench.soak.part import Part
from bench.soak.permutations import PERMUTATIONS
from bench.soak.processes import PROCESSES_PART
from bench.soak.proxies import PROXIES
from bench.soak.relayed import RELAYED
from bench.soak.restarts import RESTARTS
from bench.soak.shortage import BODIES, FILES, HEADS, MEMORY
from bench.soak.slow import SLOW
from bench.soak.smuggled import SMUGGLED
from bench.soak.stalled import STALLED
from bench.soak.supply import SUPPLY
from bench.soak.unread import UNREAD
from bench.soak.upstream import UPSTREAM
from bench.soak.vanished import VANISHED
from bench.soak.writers import WRITERS

PARTS: tuple[Part, ...] = (
    CHURN,
    KILLS,
    CRASH_POINTS,
    LISTENER,
    POOLER,
    RELAYED,
    WRITERS,
    FULL_DISK,
    SLOW,
    FAILOVER,
    DRAIN,
    STORM,
    RESTARTS,
    PROCESSES_PART,
    MACHINES,
    PROXIES,
    VANISHED,
    STALLED,
    UNREAD,
    PERMUTATIONS,
    UPSTREAM,
    FILES,
    MEMORY,
    HEADS,
    BODIES,
    FORGED,
    HOSTILE,
    SMUGGLED,
    GUESSES,
    FRAMES,
    FUZZ,
    SUPPLY,
    ANY_ORDER,
    MUTATION,
)
