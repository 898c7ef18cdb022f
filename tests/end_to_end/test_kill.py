"""kill -9 of a real process at random moments: the same rows byte for byte, at most one batch asked again a kill."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

JOB = Path(__file__).parent / "job.py"


def start(out, log, service, *overrides):
    command = [sys.executable, str(JOB), str(out), str(log), service, *overrides]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})


def finish(*args):
    assert start(*args).wait(timeout=300) == 0


def rows(out):
    return {stage: (out / "rounds/0" / f"{stage}.jsonl").read_bytes() for stage in ("candidates", "pairs")}


def begun(out):
    return any((out / "ledger/replies").glob("*.log"))


def kill_at_random(out, log, service, overrides, longest, chance):
    job = start(out, log, service, *overrides)
    while job.poll() is None and not begun(out):
        time.sleep(0.01)
    time.sleep(chance.uniform(0, longest))
    job.send_signal(signal.SIGKILL)
    return job.wait() == -signal.SIGKILL


def test_twenty_kills_on_the_scripted_service(tmp_path):
    overrides = ["data.limit=240", "block=24", "stages.candidates.samples=3"]
    finish(tmp_path / "whole", tmp_path / "whole.log", "scripted", *overrides)
    chance, kills = random.Random(0), 0
    for _ in range(20):
        kills += kill_at_random(tmp_path / "cut", tmp_path / "cut.log", "scripted", overrides, 1.5, chance)
    finish(tmp_path / "cut", tmp_path / "cut.log", "scripted", *overrides)

    assert kills >= 10
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
    once = Counter((tmp_path / "whole.log").read_text().split())
    asked = Counter((tmp_path / "cut.log").read_text().split())
    assert set(asked) == set(once) and max(once.values()) == 1
    assert asked.total() - once.total() <= 8 * kills


def test_three_kills_on_the_shipped_model(tmp_path):
    overrides = ["data.limit=12", "block=6", "stages.candidates.samples=2", "model.batch_size=4"]
    finish(tmp_path / "whole", tmp_path / "whole.log", "model", *overrides)
    chance = random.Random(1)
    for _ in range(3):
        kill_at_random(tmp_path / "cut", tmp_path / "cut.log", "model", overrides, 2.0, chance)
    finish(tmp_path / "cut", tmp_path / "cut.log", "model", *overrides)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_a_signal_finishes_the_batch_says_so_and_loses_nothing(tmp_path):
    overrides = ["data.limit=12", "block=6", "stages.candidates.samples=2", "model.batch_size=4"]
    command = [sys.executable, "-m", "vlm_selfalign.cli", "pairs", "mirror", f"out={tmp_path}/cut", *overrides]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while job.poll() is None and not begun(tmp_path / "cut"):
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    _, told = job.communicate(timeout=300)
    assert job.returncode == 143 and "the same command continues" in told.splitlines()[-1]
    assert subprocess.run(command, capture_output=True).returncode == 0
    finish(tmp_path / "whole", tmp_path / "whole.log", "model", *overrides)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")
