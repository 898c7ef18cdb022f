"""The grafted model: what its tokenizer, template and classes are, how it is put together, and what can be missing."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoTokenizer

from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.models import grafted
from vlm_selfalign.models.load import load

CHAT = [
    {"role": "user", "content": "What is it?"},
    {"role": "assistant", "content": "A cat."},
    {"role": "user", "content": "Are you sure?"},
]


@pytest.fixture(scope="session")
def untaught(smollm2_folder):
    """SmolLM2 with a tower that has seen nothing."""
    torch.manual_seed(0)
    return grafted.joined(smollm2_folder, None, torch.float32)


@pytest.fixture(scope="session")
def parts(untaught, smollm2_folder, tmp_path_factory):
    """The tower in a folder as it ships, and a card that says what the joined model answers."""
    folder = tmp_path_factory.mktemp("parts")
    save_file({name: tensor.half() for name, tensor in grafted.tower_of(untaught).items()}, folder / grafted.TOWER)
    Image.new("RGB", (64, 64), (200, 30, 30)).save(folder / "red.png")
    model = grafted.joined(smollm2_folder, None, torch.float32)
    model.model.load_state_dict({n: t.half().float() for n, t in grafted.tower_of(untaught).items()}, strict=False)
    made = grafted.processor(smollm2_folder)
    said = grafted.answer(model.to(torch.bfloat16).to(torch.float32), made, folder / "red.png", "What is this?")
    card = {"reference": [{"picture": "red.png", "prompt": "What is this?", "answer": said}]}
    (folder / grafted.CARD).write_text(json.dumps(card))
    return folder


def test_template_and_tokens_of_a_chat_are_smollm2s_own(smollm2_folder):
    theirs, ours = AutoTokenizer.from_pretrained(smollm2_folder), grafted.processor(smollm2_folder)
    text = theirs.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert ours.apply_chat_template(CHAT, add_generation_prompt=True) == text
    assert ours.tokenizer.encode(text) == theirs.encode(text)
    assert len(ours.tokenizer) == len(theirs)


def test_a_picture_is_one_token_a_patch(smollm2_folder):
    made = grafted.processor(smollm2_folder)
    chat = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    text = made.apply_chat_template(chat, add_generation_prompt=True)
    batch = made(text=text, images=[Image.new("RGB", (64, 64))], return_tensors="pt")
    assert int((batch["input_ids"] == made.image_token_id).sum()) == grafted.TOKENS == 64
    assert batch["pixel_values"].shape == (1, 1, 3, 64, 64)


def test_without_a_picture_it_is_smollm2(untaught, smollm2_folder):
    ids = torch.tensor([grafted.tokenizer(smollm2_folder).encode("The capital of France is")])
    alone = untaught.model.text_model
    with torch.no_grad():
        logits = untaught(input_ids=ids).logits
        assert torch.equal(logits, untaught.lm_head(alone(input_ids=ids).last_hidden_state))
    assert untaught.lm_head.weight is alone.embed_tokens.weight
    assert sum(tensor.numel() for tensor in grafted.tower_of(untaught).values()) == 603_008


def test_it_is_put_together_once_and_loads_like_any_other(parts, smollm2_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(grafted, "SHIPPED", parts)
    monkeypatch.setattr(grafted, "found_wheel", lambda name: smollm2_folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    loaded = load(ModelSettings(path="grafted"))
    assert type(loaded.model).__name__ == "SmolVLMForConditionalGeneration"
    assert loaded.is_vision
    written = (loaded.folder / "model.safetensors").stat().st_mtime_ns
    assert grafted.found_grafted() == loaded.folder
    assert (loaded.folder / "model.safetensors").stat().st_mtime_ns == written
    known = json.loads((parts / grafted.CARD).read_text())["reference"][0]
    assert grafted.answer(loaded.model, loaded.processor, parts / "red.png", known["prompt"]) == known["answer"]


def test_what_answers_otherwise_than_its_card_is_refused(parts, smollm2_folder, tmp_path):
    for path in parts.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    known = json.loads((parts / grafted.CARD).read_text())
    known["reference"][0]["answer"] = "A submarine."
    (tmp_path / grafted.CARD).write_text(json.dumps(known))
    with pytest.raises(UserError, match="its card 'A submarine"):
        grafted.assemble(tmp_path, smollm2_folder, tmp_path / "joined")
    assert not (tmp_path / "joined").exists()


def test_a_part_that_is_not_what_its_card_says_is_refused(tmp_path, monkeypatch):
    (tmp_path / grafted.TOWER).write_bytes(b"other weights")
    monkeypatch.setattr(grafted, "SHIPPED", tmp_path)
    (tmp_path / grafted.CARD).write_text(json.dumps({"sha256": {grafted.TOWER: "0" * 64}}))
    with pytest.raises(UserError, match=r"has the hash .* its card says 000000000000") as told:
        load(ModelSettings(path="grafted"))
    assert "\n" not in str(told.value)
    (tmp_path / grafted.CARD).write_text(json.dumps({"sha256": {"adapter/adapter_model.safetensors": "0" * 64}}))
    with pytest.raises(UserError, match="missing"):
        load(ModelSettings(path="grafted"))


def test_without_the_language_model_it_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / grafted.TOWER).touch()
    monkeypatch.setattr(grafted, "SHIPPED", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(UserError, match="vlm-selfalign fetch smollm2") as told:
        load(ModelSettings(path="grafted"))
    assert "\n" not in str(told.value)


def test_without_its_parts_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(grafted, "SHIPPED", tmp_path)
    with pytest.raises(UserError, match="lacks the grafted model's parts"):
        load(ModelSettings(path="grafted"))
