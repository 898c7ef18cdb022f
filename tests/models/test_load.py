"""Loading says in one line what is wrong, and names a model by its content."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.models import load as loading
from vlm_selfalign.models.identity import file_digest
from vlm_selfalign.models.load import load, pick_device


@pytest.fixture
def copy_of(folder_of, tmp_path):
    def copy(family: str, name: str = "model"):
        return shutil.copytree(folder_of(family), tmp_path / name)

    return copy


def refused(folder, **settings) -> str:
    with pytest.raises(UserError) as caught:
        load(ModelSettings(path=str(folder), device="cpu", **settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family, is_vision", [("qwen2_vl", True), ("gemma3", True), ("llama", False)])
def test_the_config_decides_whether_it_sees(family, is_vision, loaded):
    model = loaded(family)
    assert model.is_vision is is_vision
    assert hasattr(model.processor, "image_processor") is is_vision
    assert not model.model.training and model.model.dtype == torch.float32
    assert model.device.type == "cpu" and model.tokenizer.pad_token_id is not None


def test_precision_is_as_asked(folder_of):
    path = str(folder_of("llama"))
    assert load(ModelSettings(path=path, dtype="bfloat16", device="cpu")).model.dtype == torch.bfloat16
    assert load(ModelSettings(path=path, dtype="auto", device="cpu")).model.dtype == torch.float32


def test_what_is_no_model_is_refused_with_its_name(tmp_path, monkeypatch):
    assert "no such folder" in refused(tmp_path / "nowhere")
    assert "not a model folder" in refused(tmp_path)
    (tmp_path / "file").write_text("x")
    assert "a file" in refused(tmp_path / "file")
    assert "hub" in refused("nobody/nothing-of-the-kind")
    monkeypatch.setattr(loading, "EMBEDDED", tmp_path)
    assert "embedded" in refused("embedded")


def test_a_broken_or_foreign_config_is_refused(copy_of):
    folder = copy_of("llama")
    (folder / "config.json").write_text("{")
    assert "config.json" in refused(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    assert "'vit' does not write text" in refused(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "no_such_type"}))
    assert "config.json" in refused(folder)


def test_only_safetensors_are_loaded(copy_of):
    folder = copy_of("llama")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    assert "no weights" in refused(folder)
    torch.save(weights, folder / "pytorch_model.bin")
    assert "not safetensors" in refused(folder)


def test_missing_tensors_are_never_filled_with_chance(copy_of):
    folder = copy_of("llama")
    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "q_proj" in name)
    del weights[gone]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert gone in refused(folder)


def test_a_cut_weights_file_is_refused(copy_of):
    folder = copy_of("llama")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in refused(folder)


@pytest.mark.parametrize("family", ["llama", "qwen2_vl"])
def test_no_chat_template_is_refused(family, copy_of):
    folder = copy_of(family)
    for path in folder.glob("*chat_template*"):
        path.unlink()
    for path in folder.glob("*_config.json"):
        settings = json.loads(path.read_text())
        settings.pop("chat_template", None)
        path.write_text(json.dumps(settings))
    assert "chat template" in refused(folder)


def test_a_vision_model_without_image_processor_is_refused(copy_of):
    folder = copy_of("qwen2_vl")
    for name in ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json"):
        (folder / name).unlink(missing_ok=True)
    assert "processor" in refused(folder)


def test_four_bit_says_what_it_needs(folder_of, monkeypatch):
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    assert "pip install" in refused(folder_of("llama"), quantize="4bit")
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: object())
    assert "CUDA GPU" in refused(folder_of("llama"), quantize="4bit")


def test_devices():
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device("auto").type == expected
    with pytest.raises(UserError, match="no such device"):
        pick_device("abacus")


def adapter(base_folder, folder, base_name, seed=0):
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base_folder)
    model = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    model.save_pretrained(folder)
    (folder / "version.json").write_text(json.dumps({"base": base_name}))
    return model


def test_an_adapter_loads_on_the_base_it_names(copy_of, tmp_path):
    base = copy_of("llama", "base")
    trained = adapter(base, tmp_path / "tuned", str(base))
    model = load(ModelSettings(path=str(tmp_path / "tuned"), device="cpu"))
    ids = torch.tensor([[1, 2, 3]])
    assert torch.allclose(model.model(ids).logits, trained(ids).logits, atol=1e-5)
    plain = load(ModelSettings(path=str(base), device="cpu"))
    assert not torch.allclose(model.model(ids).logits, plain.model(ids).logits, atol=1e-2)
    assert model.base == base and model.identity != plain.identity
    assert not any(p.requires_grad for p in model.model.parameters())
    again = load(ModelSettings(path=str(tmp_path / "tuned"), device="cpu"), trainable=True)
    assert all("lora_" in n for n, p in again.model.named_parameters() if p.requires_grad)
    assert any(p.requires_grad for p in again.model.parameters())


def test_a_base_may_be_named_relative_to_the_adapter(copy_of, tmp_path):
    base = copy_of("llama", "base")
    adapter(base, tmp_path / "tuned", "../base")
    assert load(ModelSettings(path=str(tmp_path / "tuned"), device="cpu")).base.resolve() == base.resolve()


def test_an_adapter_without_base_or_weights_is_refused(copy_of, tmp_path):
    base = copy_of("llama", "base")
    adapter(base, tmp_path / "tuned", str(base))
    (tmp_path / "tuned" / "version.json").write_text(json.dumps({"base": str(tmp_path / "gone")}))
    assert "no such folder" in refused(tmp_path / "tuned")
    (tmp_path / "tuned" / "version.json").write_text(json.dumps({"base": str(base)}))
    (tmp_path / "tuned" / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors" in refused(tmp_path / "tuned")


def identity(folder, **settings):
    return load(ModelSettings(path=str(folder), device="cpu", **settings)).identity


def test_identity_is_the_content_and_not_the_place(copy_of):
    folder, other = copy_of("llama", "one"), copy_of("llama", "two")
    before = identity(folder)
    assert identity(other) == before
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(
        json.dumps({**config, "_name_or_path": "elsewhere", "transformers_version": "9"})
    )
    (other / "version.json").write_text(json.dumps({"made": "yesterday"}))
    assert identity(other) == before


def test_identity_changes_with_whatever_changes_answers(copy_of):
    folder = copy_of("llama")
    seen = {identity(folder), identity(folder, dtype="bfloat16"), identity(folder, attention="eager")}
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[0]
    weights[name].view(-1)[0] += 1e-3
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    seen.add(identity(folder))
    template = next(folder.glob("chat_template*"))
    template.write_text(template.read_text() + "{# changed #}")
    seen.add(identity(folder))
    assert len(seen) == 5


def test_big_files_are_hashed_once_until_they_change(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "big.safetensors"
    path.write_bytes(b"a" * (17 << 20))
    first = file_digest(path)
    (record,) = (tmp_path / "cache").rglob("*digests/*")
    record.write_text("remembered")
    assert file_digest(path) == "remembered"
    path.write_bytes(b"b" * (17 << 20))
    assert file_digest(path) not in ("remembered", first)
