import subprocess
import sys

from tests.waiting import scaled


def test_what_lives_as_long_as_the_process_is_left_alone() -> None:
    # In a process of its own: these settings are everybody's.
    program = (
        "import gc, sys\n"
        "from pipeline.stream.process.tuning import SWITCH_SECONDS, YOUNG_CONTAINERS, tune_process\n"
        "assert gc.get_freeze_count() == 0\n"
        "tune_process()\n"
        "assert gc.get_freeze_count() > 1000 and gc.isenabled() and gc.get_threshold()[0] == YOUNG_CONTAINERS\n"
        "assert abs(sys.getswitchinterval() - SWITCH_SECONDS) < 1e-6\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=scaled(60))
