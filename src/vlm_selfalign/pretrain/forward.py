"""The model over packed rows, with cached visual features in place of the pictures.

Legend: B rows, T tokens, C visual tokens, D hidden size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Qwen2VLForConditionalGeneration

from vlm_selfalign.pretrain.packing import Packed, Packer


def hidden(
    model: Qwen2VLForConditionalGeneration, packer: Packer, packed: Packed, features_BCD: Tensor | None
) -> Tensor:
    """Last hidden states [B, T, D] of packed rows, the features of pictures or clips (None: of neither) in place of
    their tokens.
    """
    text = model.model.language_model
    embedded_BTD = text.embed_tokens(packed.ids_BT)
    if features_BCD is not None:
        shown_BT1 = ((packed.ids_BT == packer.image) | (packed.ids_BT == packer.video))[..., None]
        embedded_BTD = embedded_BTD.masked_scatter(shown_BT1, features_BCD)
    # As numbers once, not once a layer.
    hides_B1TT = torch.zeros(packed.sees_B1TT.shape).masked_fill(~packed.sees_B1TT, float("-inf"))
    out = text(
        inputs_embeds=embedded_BTD,
        attention_mask={"full_attention": hides_B1TT},
        position_ids=packed.positions_3BT,
        use_cache=False,
    )
    return out.last_hidden_state


def packed_loss(
    model: Qwen2VLForConditionalGeneration, packer: Packer, packed: Packed, features_BCD: Tensor | None
) -> Tensor:
    """Weighted mean cross-entropy of the answers' tokens."""
    learnt = packed.targets_BT >= 0
    states = hidden(model, packer, packed, features_BCD)[learnt]
    losses = F.cross_entropy(model.lm_head(states), packed.targets_BT[learnt], reduction="none")
    weights = packed.weights_BT[learnt]
    return (losses * weights).sum() / weights.sum()
