"""What the fast step saves, counted: the same on every machine."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def benchmark():
    spec = importlib.util.spec_from_file_location("preference_step", ROOT / "benchmarks" / "preference_step.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_fewer_operations_than_trl_at_its_best(tmp_path):
    """One pair, 1024 visual tokens, answers of 128, no checkpointing, TRL scoring answer rows only."""
    bench = benchmark()
    setting = bench.SETTINGS["picture"]
    start, items = bench.build(setting, tmp_path / "model"), bench.pairs(setting, tmp_path)
    steps = {"trl": bench.theirs(setting, start, items, tmp_path, checkpointing=False, compact=True)}
    for warm in (False, True):
        steps[f"ours, warm={warm}"] = bench.ours(setting, start, items, tmp_path, checkpointing=False, warm=warm)
    counted = {name: bench.flops(step) for name, step in steps.items()}
    assert counted["trl"] >= 2.0 * counted["ours, warm=False"]
    assert counted["trl"] >= 3.0 * counted["ours, warm=True"]
