"""Every family names its own parts, so that freezing and adapters need no table."""

import pytest
from peft import LoraConfig, get_peft_model

from vlm_selfalign.config import ModelSettings
from vlm_selfalign.core.errors import UserError
from vlm_selfalign.models import families
from vlm_selfalign.models.load import load
from vlm_selfalign.models.tiny import FAMILIES

SEEING = [family for family, takes in FAMILIES.items() if takes.images]


@pytest.mark.parametrize("family", FAMILIES)
def test_parts_cover_every_parameter_once(family, loaded):
    model = loaded(family).model
    sizes = [sum(p.numel() for p in families.parameters_of(model, [part])) for part in ("vision", "language")]
    head = {id(p): p.numel() for p in families.parameters_of(model, ["head"])}
    shared = {id(p) for p in families.parameters_of(model, ["language"])}
    rest = sum(n for i, n in head.items() if i not in shared)
    assert sum(sizes) + rest == sum(p.numel() for p in model.parameters())
    assert (sizes[0] > 0) == families.takes_images(model) == FAMILIES[family].images
    embeddings = families.parameters_of(model, ["embeddings"])
    assert {id(p) for p in embeddings} < shared and embeddings[0] is model.get_input_embeddings().weight


@pytest.mark.parametrize("family", SEEING)
def test_the_projector_is_a_part_of_vision_that_ends_in_the_language_width(family, loaded):
    model = loaded(family).model
    projector = families.parameters_of(model, ["projector"])
    vision = {id(p) for p in families.parameters_of(model, ["vision"])}
    assert projector and {id(p) for p in projector} < vision
    width = model.get_input_embeddings().weight.shape[1]
    assert any(width in p.shape for p in projector)
    assert families.image_token_id(model) is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_go_on_linear_layers_of_the_language_model_or_of_all(family, loaded, folder_of):
    model = loaded(family).model
    language, everything = families.lora_targets(model, "language"), families.lora_targets(model, "all")
    head = families.parts(model)["head"]
    assert set(language) <= set(everything) and not set(head) & set(everything)
    assert (set(language) < set(everything)) == FAMILIES[family].images
    assert set(families.lora_targets(model, ("q_proj",))) <= set(everything)
    fresh = load(ModelSettings(path=str(folder_of(family)), device="cpu")).model
    tuned = get_peft_model(fresh, LoraConfig(r=2, target_modules=language))
    adapted = {
        name.split(".lora_A")[0].removeprefix("base_model.model.")
        for name, _ in tuned.named_parameters()
        if "lora_A" in name
    }
    assert adapted == set(language)
    assert families.parts(tuned) == families.parts(model)


def test_unknown_names_are_refused(loaded):
    model = loaded("llama").model
    with pytest.raises(UserError, match="did you mean 'vision'"):
        families.parameters_of(model, ["visions"])
    with pytest.raises(UserError, match="q_proj"):
        families.lora_targets(model, ("q_prj",))
    assert families.parameters_of(model, ["vision"]) == [] and families.image_token_id(model) is None
