"""What the fast step saves, counted: the same on every machine."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import preference_step

    yield preference_step
    for name in ("preference_step", "preference_step_sides"):
        sys.modules.pop(name)


@pytest.mark.slow
def test_fewer_operations_than_trl_at_its_best(bench, tmp_path):
    """One pair, 1024 visual tokens, answers of 128, no checkpointing, TRL scoring answer rows only."""
    setting = bench.SETTINGS["picture"]
    start, items = bench.build(setting, tmp_path / "model"), bench.pairs(setting, tmp_path)
    steps = bench.made(setting, start, items, tmp_path, (bench.BEST, "ours"))
    before, learn = (bench.flops(part) for part in (steps["ours"].before, steps["ours"].learn))
    theirs = bench.flops(steps[bench.BEST])
    assert theirs >= 2.2 * (before + learn)
    assert theirs >= 3.3 * learn
