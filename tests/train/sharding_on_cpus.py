"""Fits under FSDP2 on CPUs: ``python sharding_on_cpus.py config.yaml spec.json ...``, one fit after the other.

Accelerate reads such a config but shards on accelerators only, so its state is told to go on as it does on those. All
processes are forked off one that has imported everything, which takes longer than the fits. What each forward of the
engine met is written beside the spec: its backend, and how many weights were sharded.
"""

import faulthandler
import json
import os
import sys
import traceback
from pathlib import Path

import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.state import AcceleratorState, DistributedType, PartialState
from accelerate.utils.launch import prepare_multi_gpu_env
from torch.distributed.tensor import DTensor

from vlm_selfalign.train import fit
from vlm_selfalign.train.engine.forward import Engine

PATIENCE_S = 240
"""Until a process that waits for another says where, and ends."""


def environment(config: str, processes: int) -> dict[str, str]:
    """What ``accelerate launch`` would tell every process."""
    asked = ["--config_file", config, "--num_processes", str(processes), "--main_process_port", "0", "a.py"]
    args = _validate_launch_command(launch_command_parser().parse_args(asked))[0]
    told = prepare_multi_gpu_env(args)
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(args.main_process_port)}
    return {**told, **address, "WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}


def shard_on_cpus() -> None:
    as_it_is = AcceleratorState.__init__

    def told(self, *args, fsdp_plugin=None, **more):
        as_it_is(self, *args, fsdp_plugin=fsdp_plugin, **more)
        if fsdp_plugin is not None:
            self.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin

    AcceleratorState.__init__ = told


def noted_forwards() -> list[tuple[str, int]]:
    met, as_it_is = [], Engine._hidden

    def noted(self, model, tree):
        sharded = sum(isinstance(p, DTensor) for p in model.parameters())
        made = as_it_is(self, model, tree)
        met.append((self.backend, sharded))
        return made

    Engine._hidden = noted
    return met


def run(spec: str, rank: int, told: dict[str, str]) -> None:
    """One process's part of a fit."""
    os.environ.update(told, RANK=str(rank), LOCAL_RANK=str(rank), ACCELERATE_USE_CPU="true")
    faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
    sys.argv[1:] = [spec]
    met = noted_forwards()
    fit.main()
    Path(spec).with_name(f"met-{rank}.json").write_text(json.dumps(met))


def forked(spec: str, rank: int, told: dict[str, str]) -> int:
    process = os.fork()
    if process:
        return process
    ended = 1
    try:
        run(spec, rank, told)
        ended = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(ended)


if __name__ == "__main__":
    torch.set_num_threads(1)
    shard_on_cpus()
    config, *specs = sys.argv[1:]
    for one in specs:
        told = environment(config, 2)
        running = [forked(one, rank, told) for rank in range(2)]
        ended = [os.waitpid(process, 0)[1] for process in running]
        if any(ended):
            sys.exit(f"{one}: failed")
