"""What processes have used up."""

import os
import subprocess
import sys

from bench.procfs import cpu_s

BUSY = "import time\nwhile time.process_time() < 0.3: pass"


def test_the_time_of_children_that_have_ended_counts():
    before_s = cpu_s([os.getpid()])

    subprocess.run([sys.executable, "-c", BUSY], check=True)

    assert 0.25 < cpu_s([os.getpid()]) - before_s


def test_a_process_that_is_gone_has_used_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()

    assert 0 == cpu_s([process.pid])
