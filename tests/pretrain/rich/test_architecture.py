"""Positions can be told apart, and the first layers look back from the first step on."""

import pytest
import torch
from transformers import AutoConfig

from vlm_selfalign.pretrain.architecture import MERGE, PATCH, SIDE
from vlm_selfalign.pretrain.rich.architecture import BACK, FREQUENCIES, build, configuration
from vlm_selfalign.pretrain.rich.words import words
from vlm_selfalign.pretrain.tokens import SPECIAL, processor


@pytest.fixture(scope="module")
def untrained():
    tokenizer = processor(SIDE, PATCH, MERGE, words()).tokenizer
    ids = dict(zip(SPECIAL, tokenizer.convert_tokens_to_ids(list(SPECIAL)), strict=True))
    return build(configuration(ids, len(tokenizer)), 0).eval(), tokenizer


def test_the_frequencies_are_the_named_ones_also_when_saved(untrained, tmp_path):
    model, _ = untrained
    named = torch.tensor([one for axis in FREQUENCIES.values() for one in axis])
    torch.testing.assert_close(model.model.language_model.rotary_emb.inv_freq, named)
    model.config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path).text_config.rope_parameters
    assert again == model.config.text_config.rope_parameters
    assert again["attention_factor"] == 1.0


@torch.no_grad()
def test_place_heads_look_back_as_far_as_they_should(untrained):
    model, tokenizer = untrained
    model.set_attn_implementation("eager")
    text = "There is a red car in the top left. A blue boat is to the left of the red car. " * 4
    looks = model(**tokenizer([text], return_tensors="pt"), output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    for layer, distances in BACK.items():
        for head, back in enumerate(distances):
            assert (looks[layer][0, head].diagonal(-back) > 0.66).float().mean() > 0.95


@torch.no_grad()
def test_words_find_themselves_elsewhere(untrained):
    """Of the first layer's two matching heads one takes a word's two places alike, one takes the other place."""
    model, tokenizer = untrained
    model.set_attn_implementation("eager")
    text = "There is a red car in the top left. Where is the car"
    asked = tokenizer([text], return_tensors="pt")
    (first, again) = (asked["input_ids"][0] == tokenizer.convert_tokens_to_ids("Ġcar")).nonzero()[:, 0].tolist()
    look = model(**asked, output_attentions=True).attentions[0][0, :, again]
    model.set_attn_implementation("sdpa")
    assert look[2, [first, again]].sum() > 0.5
    assert look[2, first] / look[2, again] == pytest.approx(1, abs=0.25)
    assert look[3, first] > 2 * look[3, again]
