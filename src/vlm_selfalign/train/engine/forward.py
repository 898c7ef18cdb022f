"""One forward over a tree, and the scores of its texts.

::

    engine, plan = Engine(Vision()), Planner(model, maker)
    scores = engine.score(model, plan(texts), scored_NT)          # like score.score_tokens of the padded texts

Shapes: N texts, T tokens of the row, M pairs of a place and the token that follows, S scored tokens, D width.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn

from vlm_selfalign.models.families import unwrapped
from vlm_selfalign.train.engine import attention
from vlm_selfalign.train.engine.fitness import FULL, SLIDING, Shape, Unfit, shape_of
from vlm_selfalign.train.engine.forked import forked_hidden
from vlm_selfalign.train.engine.head import HeadScores, score_hidden
from vlm_selfalign.train.engine.last_layer import wanted_alone
from vlm_selfalign.train.engine.tree import Tree
from vlm_selfalign.train.engine.vision import Vision
from vlm_selfalign.train.score import TokenScores


class Engine:
    """The fast step for a policy and whatever it is compared with."""

    def __init__(self, vision: Vision) -> None:
        self.vision = vision
        self.backend = ""
        """What the last forward used: ``split``, ``dense`` or ``forked``."""
        self.forwards = 0
        attention.register()

    def score(
        self,
        model: Any,
        tree: Tree,
        scored_NT: Tensor,
        *,
        stats: bool = False,
        kl_sequences: int = 0,
        reference: tuple[Tensor, nn.Module] | None = None,
    ) -> TokenScores:
        """Log-probs of every scored token, ``[N, T-1]`` as of the padded texts.

        Args:
            model: A causal language model with or without eyes, wrapped for parallel training or not.
            tree: Of the same texts.
            scored_NT: Which tokens of the padded texts are scored, from the second on.
            stats: Whether to add entropy, mean logit and top-1, without gradient.
            kl_sequences: For how many of the first texts the KL to the reference is wanted.
            reference: The reference's ``hidden`` of their scored tokens, and its output layer.

        Raises ``Unfit`` when the model cannot take a tree.
        """
        hidden_MD = self._hidden(model, tree)
        head = output_layer(model)
        scored_NT = scored_NT.to(hidden_MD.device)
        pair_S, next_M = tree.pair_S.to(hidden_MD.device), tree.next_M.to(hidden_MD.device)
        first = int(scored_NT[:kl_sequences].sum()) if reference is not None else 0
        if reference is None or not first:
            found = score_hidden(head, hidden_MD, next_M, stats)
        else:
            known_M, reference_MD = _spread(reference[0], pair_S[:first], len(next_M))
            found = _in_two(head, hidden_MD, next_M, stats, known_M, (reference_MD, reference[1]))

        def padded(values_M: Tensor) -> Tensor:
            return values_M.new_zeros(scored_NT.shape).masked_scatter(scored_NT, values_M[pair_S])

        return TokenScores(
            logp_NT=padded(found.logp_M),
            kl_NT=None if found.kl_M is None else _of_first(padded(found.kl_M), kl_sequences),
            stats={name: padded(values_M) for name, values_M in found.stats.items()},
        )

    def hidden(self, model: Any, tree: Tree) -> tuple[Tensor, Tensor]:
        """The states that predict the scored tokens, ``[S, D]``, and those tokens ``[S]``, text by text."""
        hidden_MD = self._hidden(model, tree)
        pair_S = tree.pair_S.to(hidden_MD.device)
        return hidden_MD[pair_S], tree.next_M.to(hidden_MD.device)[pair_S]

    def _hidden(self, model: Any, tree: Tree) -> Tensor:
        inner = extract_model_from_parallel(model)
        device = next(inner.parameters()).device
        shape, tree = self._fitted(inner, device), tree.to(device)
        if shape.backend == "forked":
            return self._forked(model, tree)
        branches = _branches(shape, tree)
        if torch.is_grad_enabled() and unwrapped(inner).is_activation_checkpointing:
            branches.kept = {}
        given: dict[str, Any] = {
            "input_ids": tree.ids_T[None],
            "position_ids": tree.positions,
            "attention_mask": _mask(shape, tree),
            "use_cache": False,
            attention.KEYWORD: branches,
        }
        pruned = wanted_alone(inner) if shape.prunes else contextlib.nullcontext()
        with pruned, _looking(inner, lambda: self.vision.features(inner, tree.looks, device)):
            hidden_MD = _before_the_head(model, output_layer(model), given, _among(tree.row_M, branches.wanted))
        if len(branches.layers) != shape.layers:
            raise Unfit(f"only {len(branches.layers)} of its {shape.layers} layers asked for the tree's attention")
        self.backend, self.forwards = shape.backend, self.forwards + 1
        return hidden_MD

    def _forked(self, model: Any, tree: Tree) -> Tensor:
        def take(inputs: dict[str, Any], wanted_M: Tensor) -> Tensor:
            return _before_the_head(model, output_layer(model), inputs, wanted_M)

        found = forked_hidden(model, unwrapped(model).config.get_text_config(), tree, take)
        self.backend, self.forwards = "forked", self.forwards + 1
        return found

    def _fitted(self, inner: Any, device: torch.device) -> Shape:
        half = inner.dtype in (torch.bfloat16, torch.float16) or torch.is_autocast_enabled(device.type)
        shape = shape_of(inner, device.type, half)
        whole = unwrapped(inner)
        text = whole.config.get_text_config()
        if shape.backend != "forked" and text._attn_implementation != attention.NAME:
            inside = [name for name in whole.config.sub_configs if getattr(whole.config, name) is text]
            whole.set_attn_implementation({inside[0]: attention.NAME} if inside else attention.NAME)
        return shape


def output_layer(model: Any) -> nn.Module:
    """The matrix that turns hidden states into logits."""
    return extract_model_from_parallel(model).get_output_embeddings()


@contextlib.contextmanager
def _looking(inner: nn.Module, look: Callable[[], dict[str, Any]]) -> Iterator[None]:
    """Gives a forward the features of pictures, made once it has begun: FSDP2 wants the whole model's hooks first."""

    def given(_: Any, args: tuple[Any, ...], more: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        seen = look()
        return args, {**more, "mm_encoder_outputs": seen} if seen else more

    hook = inner.register_forward_pre_hook(given, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _before_the_head(model: Any, head: nn.Module, given: dict[str, Any], row_M: Tensor) -> Tensor:
    """Run the model, but take the wanted rows off before its output layer, which gets to see one."""
    taken: list[Tensor] = []

    def take(_: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        taken.append(args[0][0, row_M])
        return (args[0][:, :1], *args[1:])

    hook = head.register_forward_pre_hook(take)
    try:
        model(**given)
    finally:
        hook.remove()
    return taken[0]


def _branches(shape: Shape, tree: Tree) -> attention.Branches:
    wanted_Q = tree.row_M.unique() if shape.prunes else None
    if shape.backend == "dense":
        return attention.Branches(None, wanted=wanted_Q)
    found = attention.Branches(attention.pieces_of(tree.nodes), wanted=wanted_Q)
    if wanted_Q is not None:
        found.wanted_pieces = attention.pieces_of(tree.nodes, wanted_Q)
    return found


def _among(row_M: Tensor, wanted_Q: Tensor | None) -> Tensor:
    """Where places stand among the wanted ones, which are all that the last layer gives."""
    return row_M if wanted_Q is None else torch.searchsorted(wanted_Q, row_M)


def _mask(shape: Shape, tree: Tree) -> Tensor | dict[str, Tensor]:
    device = tree.ids_T.device
    if shape.backend == "split":
        # Never read; but without one transformers would take the positions for several packed sequences
        return torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
    seen_TT = attention.visible(tree.nodes, device)
    if shape.blocks is not None and tree.kinds:
        block_T = shape.blocks(next(iter(tree.kinds.values())), device=device)[0]
        seen_TT = seen_TT | ((block_T[:, None] == block_T) & (block_T >= 0))
    masks = {FULL: seen_TT[None, None]}
    if shape.window:
        near_TT = tree.depth_T[:, None] - tree.depth_T < shape.window
        masks[SLIDING] = (seen_TT & near_TT)[None, None]
    return masks[shape.kinds[0]] if len(shape.kinds) == 1 else masks


def _spread(hidden_RD: Tensor, pair_R: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which of the pairs the reference's states are of, bool ``[M]``, and those states in the pairs' order."""
    known_M = torch.zeros(count, dtype=torch.bool, device=pair_R.device)
    known_M[pair_R] = True
    all_MD = hidden_RD.new_zeros(count, hidden_RD.shape[1]).to(pair_R.device)
    all_MD[pair_R] = hidden_RD.to(pair_R.device)
    return known_M, all_MD[known_M]


def _in_two(
    head: nn.Module,
    hidden_MD: Tensor,
    next_M: Tensor,
    stats: bool,
    known_M: Tensor,
    reference: tuple[Tensor, nn.Module],
) -> HeadScores:
    """Pairs with a reference and pairs without, each in one go."""
    parts = [(known_M, reference), (~known_M, None)]
    found = [score_hidden(head, hidden_MD[m], next_M[m], stats, ref) for m, ref in parts]

    def together(values: list[Tensor]) -> Tensor:
        made = values[0].new_zeros(len(next_M))
        for (mask_M, _), value in zip(parts, values, strict=True):
            made = made.masked_scatter(mask_M, value)
        return made

    kl = [part.kl_M if part.kl_M is not None else torch.zeros_like(part.logp_M) for part in found]
    joined = {name: together([part.stats[name] for part in found]) for name in found[0].stats}
    return HeadScores(together([part.logp_M for part in found]), together(kl), joined)


def _of_first(kl_NT: Tensor, count: int) -> Tensor:
    # A place may be shared with a text whose KL nobody asked for
    return torch.cat((kl_NT[:count], torch.zeros_like(kl_NT[count:])))
