"""For every family: the fast backend ran, and log-probs and all gradients are those of one sequence per text."""

import pytest
import torch

from train.engine.made import GROUP, PAIR, apart, asked, bench, both, gradients
from vlm_selfalign.models.tiny import FAMILIES
from vlm_selfalign.train.engine import attention, forward
from vlm_selfalign.train.score import score_tokens

BACKENDS = {family: "dense" if family == "gemma3" else "split" for family in FAMILIES}
LIMIT = 1e-5
TRAINED = {
    "full": {},
    "lora": {"lora": "language"},
    "full, vision frozen": {"freeze": ("vision", "embeddings")},
    "lora on vision too": {"lora": "all"},
}


def mixed(found, photos):
    """A pair, a group of five, two prompts of one picture, two pictures in one prompt, a prompt without."""
    sees = found.learner.loaded.is_vision
    one, two = (photos[:1], photos[1:3]) if sees else ((), ())
    texts = found.texts(asked("describe the picture", *one), GROUP)
    texts += found.texts(asked("what do you see ?", *one))
    texts += found.texts(asked("what is wrong with these ?", *two), GROUP[:3])
    return texts + found.texts(asked("how many ?"), ("two .", "one red dog"))


@pytest.mark.parametrize(
    "family, how",
    [(family, how) for family in FAMILIES for how in ("full", "lora")]
    + [(family, how) for family in ("qwen2_5_vl", "gemma3") for how in list(TRAINED)[2:]],
)
def test_equals_the_plain_forward(family, how, photos):
    found = bench(family, **TRAINED[how])
    error, gradient = both(found, mixed(found, photos))
    assert found.engine.backend == BACKENDS[family] and found.engine.forwards == 1
    assert error <= LIMIT and gradient <= LIMIT


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3"])
def test_float64(family, photos):
    found = bench(family)
    found.learner.model.double()
    texts = mixed(found, photos)
    inputs, answer = found.plain(texts, torch.float64)
    plain = score_tokens(found.learner.model, inputs, answer).logp_NT
    assert plain.dtype == torch.float32  # the plain way speaks float32 in any case
    wanted = gradients(found, plain)
    fast = found.fast_scores(texts).logp_NT
    assert fast.dtype == torch.float64
    assert (fast - plain).abs().max() < 1e-6 and apart(gradients(found, fast), wanted) < 1e-6


def test_windows_and_pictures_that_see_both_ways(photos):
    found = bench("gemma3")
    found.learner.model.config.text_config.sliding_window = 6  # shorter than a picture, a prompt and an answer
    error, gradient = both(found, mixed(found, photos))
    assert found.engine.backend == "dense" and error <= LIMIT and gradient <= LIMIT


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3"])
def test_checkpointing_changes_nothing(family, reentrant, photos):
    found = bench(family, "language")
    found.learner.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    found.learner.model.enable_input_require_grads()
    error, gradient = both(found, mixed(found, photos))
    assert found.learner.model.is_activation_checkpointing and error <= LIMIT and gradient <= LIMIT


@pytest.mark.parametrize("family", BACKENDS)
def test_the_last_layer_runs_on_wanted_places_alone(family, photos):
    found = bench(family, "language")
    texts, seen = found.texts(asked("describe", *photos[: found.learner.loaded.is_vision])), []
    mlp = found.learner.model.get_base_model().get_decoder().layers[-1].mlp
    mlp.register_forward_hook(lambda module, args, out: seen.append(args[0].shape[1]))
    tree = found.planner(texts)
    found.engine.score(found.learner.model, tree, found.plain(texts)[1][:, 1:])
    assert seen == [len(tree.row_M.unique())] and seen[0] < len(tree.ids_T)


def test_attention_is_not_computed_again_under_checkpointing(photos, monkeypatch):
    found, counts = bench("qwen2_5_vl", "language"), []
    texts = found.texts(asked("describe", photos[0]))
    real = attention._attend
    monkeypatch.setattr(attention, "_attend", lambda *args: counts.append(1) or real(*args))
    for checkpointing in (False, True):
        if checkpointing:
            found.learner.model.gradient_checkpointing_enable({"use_reentrant": False})
            found.learner.model.enable_input_require_grads()
        counts.append(0)
        gradients(found, found.fast_scores(texts).logp_NT)
    first, second = (len(part) for part in (counts[1 : counts.index(0, 1)], counts[counts.index(0, 1) + 1 :]))
    assert first == second > 0


def test_equal_answers_and_answers_that_begin_alike(photos):
    found = bench("qwen2_5_vl", "language")
    prompt = asked("describe the picture", photos[0])
    texts = found.texts(prompt, ("a red ball", "a red ball and a dog", "a red ball")) + found.texts(prompt, ("", "a"))
    error, gradient = both(found, texts)
    assert error <= LIMIT and gradient <= LIMIT


def test_words_before_the_picture_differ(photos):
    from vlm_selfalign.core.prompts import Message, Prompt

    found = bench("qwen2_5_vl", "language")
    parts = Prompt.user("", photos[0]).messages[0].parts
    picture = next(part for part in parts if not isinstance(part, str))
    texts = []
    for words in ("look :", "see this :"):
        message = Message(role="user", parts=(words, picture, "describe"))
        texts += found.texts(Prompt(messages=(message,), media=(photos[0],)))
    tree = found.planner(texts)
    assert len(tree.looks) == 2 and len(tree.roots) == 2
    error, gradient = both(found, texts)
    assert error <= LIMIT and gradient <= LIMIT and found.engine.vision.calls == 1


# Negative controls: each mistake must be far outside the limit


def test_wrong_positions_show(photos):
    found = bench("qwen2_5_vl", "language")

    def shifted(texts):
        tree = found.planner(texts)
        tree.positions = tree.positions + (tree.depth_T >= len(texts[0].ids) - texts[0].scored)
        return found.engine.score(found.learner.model, tree, found.plain(texts)[1][:, 1:])

    error, gradient = both(found, found.texts(asked("describe", photos[0])), shifted)
    assert error > 100 * LIMIT and gradient > 100 * LIMIT


def test_positions_counted_on_from_the_last_one_show(photos):
    """After a picture "one more than the last" is not where the model puts the next word."""
    found = bench("qwen2_5_vl", "language")

    def counted(texts):
        tree = found.planner(texts)
        tree.positions = tree.depth_T.expand(3, 1, -1)
        return found.engine.score(found.learner.model, tree, found.plain(texts)[1][:, 1:])

    error, _ = both(found, found.texts(asked("describe", photos[1])), counted)
    assert error > 100 * LIMIT


@pytest.mark.parametrize("family", ["qwen2_5_vl", "gemma3"])
def test_a_branch_that_sees_its_neighbour_shows(family, photos):
    found = bench(family, "language")

    def leaky(texts):
        tree = found.planner(texts)
        prompt, first, second = tree.nodes
        tree.nodes = (prompt, type(first)(first.start, first.end, second.reach, root=False), second)
        return found.engine.score(found.learner.model, tree, found.plain(texts)[1][:, 1:])

    error, gradient = both(found, found.texts(asked("describe", photos[0])), leaky)
    assert error > 100 * LIMIT and gradient > 100 * LIMIT


def test_a_branch_without_its_prompt_shows(photos):
    found = bench("qwen2_5_vl", "language")

    def cut(texts):
        tree = found.planner(texts)
        prompt, first, second = tree.nodes
        alone = type(prompt)(prompt.start, prompt.end, prompt.end)
        tree.nodes = (alone, *(type(n)(n.start, n.end, n.reach) for n in (first, second)))
        return found.engine.score(found.learner.model, tree, found.plain(texts)[1][:, 1:])

    error, _ = both(found, found.texts(asked("describe", photos[0])), cut)
    assert error > 100 * LIMIT


def test_another_picture_shows(photos):
    found = bench("qwen2_5_vl", "language")
    other = found.planner(found.texts(asked("describe", photos[0].viewed("noise", 0.9))))

    def swapped(texts):
        tree = found.planner(texts)
        tree.looks = other.looks
        return found.engine.score(found.learner.model, tree, found.plain(texts)[1][:, 1:])

    error, _ = both(found, found.texts(asked("describe", photos[0])), swapped)
    assert error > 100 * LIMIT


def test_a_tree_that_some_layer_never_saw_is_refused(photos, monkeypatch):
    found = bench("qwen2_5_vl", "language")
    layer = found.learner.model.get_base_model().get_decoder().layers[1].self_attn
    monkeypatch.setattr(layer, "config", type(layer.config)(**layer.config.to_dict(), attn_implementation="sdpa"))
    with pytest.raises(forward.Unfit, match="only 1 of its 2 layers"):
        found.fast_scores(found.texts(asked("describe", photos[0]), PAIR))
