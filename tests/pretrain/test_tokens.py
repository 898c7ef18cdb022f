"""The tokenizer loses nothing, and the template speaks all the chat forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoProcessor

from vlm_selfalign.data.world.settings import COLOURS, KINDS
from vlm_selfalign.pretrain.architecture import MERGE, PATCH, SIDE
from vlm_selfalign.pretrain.tokens import processor


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processor")
    processor(SIDE, PATCH, MERGE).save_pretrained(folder)
    return AutoProcessor.from_pretrained(folder)


@given(text=st.text())
def test_any_text_comes_back(loaded, text):
    ids = loaded.tokenizer.encode(text, add_special_tokens=False)
    special = set(loaded.tokenizer.all_special_tokens)
    if not any(token in text for token in special):
        assert loaded.tokenizer.decode(ids) == text


def test_words_of_the_world_are_one_token(loaded):
    for word in (
        [" " + kind for kind in KINDS] + [" " + c for c in COLOURS] + list(COLOURS) + ["Yes", "No", "3", " There"]
    ):
        assert len(loaded.tokenizer.encode(word)) == 1, word
    assert len(loaded.tokenizer) < 420


def test_the_template_speaks_all_roles(loaded):
    image = {"type": "image"}
    chat = [
        {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [image, {"type": "text", "text": "Is there a car?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "Yes"}]},
        {"role": "user", "content": "What colour is the car?"},
    ]
    assert loaded.apply_chat_template(chat, add_generation_prompt=True) == (
        "<|system|>Be brief.<|user|><|vision_start|><|image_pad|><|vision_end|>Is there a car?"
        "<|assistant|>Yes<|im_end|><|user|>What colour is the car?<|assistant|>"
    )
    assert loaded.apply_chat_template(chat[3:]) == "<|user|>What colour is the car?"
