"""The way to a real model: one's own photographs, a checkpoint of a real family on disk, everything but the replies
real: pairs, training, adapter, reload, generation."""

import json

import numpy as np
import pytest
from PIL import Image

import vlm_selfalign as sa
from vlm_selfalign.config import ModelSettings, load_settings
from vlm_selfalign.core.requests import Choose, Generate, Sampling
from vlm_selfalign.models.hf import HFService
from vlm_selfalign.models.load import load
from vlm_selfalign.models.tiny import build

THINGS = ["dog", "cat", "car", "boat", "bench", "chair", "clock", "bird"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for place in range(12):
        pixels = np.random.default_rng(place).integers(0, 255, (60 + place, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.{'png' if place % 2 else 'jpg'}")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return build("qwen2_5_vl", tmp_path_factory.mktemp("model") / "qwen2_5_vl")


def scripted(request):
    """A plausible model: five sentences about things that depend on the picture, and no for all it did not name."""
    if isinstance(request, Choose):
        return {"Yes": 0.1, "No": 0.9}
    if request.prompt.opening:
        return request.prompt.opening + " that looks old."
    first = int(request.prompt.media[0].content_hash[:4], 16) % len(THINGS)
    named = [THINGS[(first + step) % len(THINGS)] for step in range(5)]
    return " ".join(f"There is a {thing} here." for thing in named)


def run(photos, checkpoint, out, *more):
    parts = ["apasi", "qwen2_5_vl_7b_lora", f"data.path={photos}", f"out={out}", f"model.path={checkpoint}"]
    parts += [
        "model.dtype=float32",
        "model.media.max_pixels=3136",
        "model.device=cpu",
        "model.lora.r=16",
        "model.lora.alpha=32",
    ]
    parts += ["training.bf16=false", "training.gradient_checkpointing=false", "training.micro_batch=4"]
    parts += ["rounds=1", "data.vocabulary=coco", "measure.holdout=0", "stages.pairs.rate=0.3", *more]
    return sa.run(*parts, services={"policy": sa.Scripted(scripted)}, show=lambda line: None, verb="train")


def test_pairs_train_and_the_adapter_changes_what_is_written(photos, checkpoint, tmp_path):
    fit = ["learning_rate=2e-2", "epochs=12", "batch_size=4", "beta=1", "alpha=0"]
    result = run(photos, checkpoint, tmp_path / "run", *(f"stages.policy.{key}" for key in fit))

    pairs = result.rows("pairs")
    assert len(pairs) >= 8
    log = [json.loads(line) for line in (result.policy / "log.jsonl").read_text().splitlines()]
    assert log[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)
    assert log[-1]["loss"] < log[0]["loss"] / 2
    assert (result.policy / "adapter_model.safetensors").is_file()
    assert not list(result.policy.glob("*.bin"))

    start = HFService(load(ModelSettings(path=str(checkpoint), device="cpu")))
    after = HFService(load(ModelSettings(path=str(result.policy), device="cpu")))
    asked = [Generate(prompt=pair.prompt, sampling=Sampling(max_tokens=24)) for pair in pairs[:4]]
    before_texts = [reply.text for reply in start.serve(asked, [0] * 4)]
    after_texts = [reply.text for reply in after.serve(asked, [0] * 4)]
    assert before_texts != after_texts
    assert start.identity != after.identity


def test_the_same_command_continues_and_asks_nothing_again(photos, checkpoint, tmp_path):
    first = run(photos, checkpoint, tmp_path / "run")
    asked = sa.Scripted(scripted)
    settings = load_settings(["apasi"])
    assert settings.name == "apasi"
    again = sa.run(first.settings, services={"policy": asked}, show=lambda line: None, verb="train")
    assert not asked.requests
    assert again.rows("pairs") == first.rows("pairs")


def test_another_config_on_an_old_run_is_refused_with_the_difference(photos, checkpoint, tmp_path):
    run(photos, checkpoint, tmp_path / "run")
    with pytest.raises(ValueError, match=r"seed: 0 -> 1"):
        run(photos, checkpoint, tmp_path / "run", "seed=1")
