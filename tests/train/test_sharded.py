"""Under FSDP2 two processes learn what one does, with weights that are really shared out."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train.made import photo_pairs, spec_for, text_pairs
from vlm_selfalign.core.lines import growing_lines
from vlm_selfalign.core.rows import Demo
from vlm_selfalign.train import checkpoint
from vlm_selfalign.train.fit import fit, main

PROGRAM = Path(__file__).with_name("sharding_on_cpus.py")
CONFIG = Path(__file__).parents[2] / "configs" / "accelerate" / "fsdp2.yaml"
LORA = {"lora": {"r": 2, "alpha": 4}}
FITS = {
    "lora": {"loss": "rrpo", "settings": {"alpha": 0.1}, "model": LORA},
    "full": {"loss": "dpo"},
    "sft": {"loss": "sft", "model": LORA},  # no reference was asked, so the tower looks after the sharding
    "eyes learn": {"loss": "dpo", "schedule": {"freeze": ()}},
}
KEYS = {"loss", "grad_norm", "kl/chosen"}  # of uneven steps TRL logs other figures as means of the processes' means


def spec_of(folder, name, photos, start, processes=1):
    """Seven rows in steps of four, one at a time: steps of several portions, and one that is uneven."""
    given = dict(FITS[name])
    rows = photo_pairs(photos, 7)
    if given["loss"] == "sft":
        rows = [Demo(prompt=row.prompt, answer=row.chosen, index=row.index) for row in rows]
    schedule = {"learning_rate": 1e-2, "epochs": 1.5, **given.pop("schedule", {})}
    training = {"micro_batch": 1, "processes": processes}
    return spec_for(folder, rows, start, schedule=schedule, training=training, **given)


def by_two(root, photos, start):
    """All fits by two processes, in one program: importing takes longer than they do."""
    paths = []
    for name in FITS:
        spec = spec_of(root / name, name, photos, start, processes=2)
        paths.append(root / name / "spec.json")
        paths[-1].write_text(spec.model_dump_json())
    command = [sys.executable, PROGRAM, CONFIG, *paths]
    subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=500)


def weights(out):
    return {k: v for path in out.glob("*.safetensors") for k, v in load_file(path).items()}


def test_two_processes_that_share_the_weights_learn_what_one_does(qwen, photos, tmp_path):
    by_two(tmp_path / "two", photos, qwen)
    for name in FITS:
        fit(spec_of(tmp_path / "one" / name, name, photos, qwen))
        by_one, by_both = (tmp_path / count / name / "out" for count in ("one", "two"))
        checkpoint.verify(by_both)
        one, two = (growing_lines(out / "log.jsonl") for out in (by_one, by_both))
        assert len(one) == 3 and abs(one[-1]["loss"] - one[0]["loss"]) > 1e-3, name
        for key in KEYS & one[0].keys():
            wanted = pytest.approx([line[key] for line in one], rel=2e-4, abs=2e-5)
            assert [line[key] for line in two] == wanted, (name, key)
        mine, whole = weights(by_both), weights(by_one)
        assert all(torch.allclose(mine[key], whole[key], atol=1e-3) for key in whole), name
        engine_ran(by_both, name)


def engine_ran(out, name):
    notes = json.loads((out / "version.json").read_text())["fit"]["notes"]
    for rank in range(2):
        met = json.loads((out.parent / f"met-{rank}.json").read_text())
        if name == "eyes learn":
            assert not met and any("its tower learns under FSDP" in note for note in notes)
            continue
        assert {backend for backend, _ in met} == {"split"}, name
        assert sum(sharded > 0 for _, sharded in met) == 6, name  # two portions in each of three steps


def test_weights_that_only_one_process_has_are_refused(llama, tmp_path, monkeypatch):
    path = tmp_path / "spec.json"
    path.write_text(spec_for(tmp_path, text_pairs(2), llama, loss="dpo").model_dump_json())
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "true")
    monkeypatch.setattr(sys, "argv", ["fit", str(path)])
    with pytest.raises(SystemExit, match="fsdp_cpu_ram_efficient_loading: false"):
        main()
