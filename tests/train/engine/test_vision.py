import torch

from train.engine.made import apart, asked, bench, both, gradients
from vlm_selfalign.core.media import Media
from vlm_selfalign.train.engine.vision import Look, Vision, content_key

CPU = torch.device("cpu")


def looks(found, *photos: Media) -> list[Look]:
    return [look for photo in photos for look in found.planner(found.texts(asked("describe", photo))).looks]


def test_a_picture_is_looked_at_once_for_all_pairs_epochs_and_roles(photos):
    found = bench("qwen2_vl", "language")
    texts = [t for words in ("a", "b", "c") for t in found.texts(asked(words, photos[0]))]
    wanted = None
    for _ in range(2):
        grads = gradients(found, found.fast_scores(texts).logp_NT)
        assert wanted is None or apart(grads, wanted) == 0
        wanted = grads
    with torch.no_grad(), found.learner.model.disable_adapter():
        found.fast_scores(texts)
    assert found.engine.vision.calls == 1


def test_a_frozen_tower_gets_no_graph_even_with_checkpointing(photos):
    found = bench("qwen2_5_vl", "language")
    found.learner.model.gradient_checkpointing_enable()
    found.learner.model.enable_input_require_grads()
    seen = found.engine.vision.features(found.learner.model, looks(found, photos[0]), CPU)
    assert not any(t.requires_grad for t in seen["image"].pooler_output)


def test_a_tower_that_learns_is_looked_through_each_time(photos):
    found = bench("qwen2_5_vl", "all")
    texts = found.texts(asked("describe", photos[0])) + found.texts(asked("what ?", photos[0]))
    for calls in (1, 2):
        grads = gradients(found, found.fast_scores(texts).logp_NT)
        assert found.engine.vision.calls == calls
    assert any("visual" in name for name in grads)


def test_what_changes_the_features_is_another_key(photos, tmp_path):
    found = bench("qwen2_vl", "language", vision=Vision(tmp_path))
    vision, model = found.engine.vision, found.learner.model
    vision.features(model, looks(found, photos[0]), CPU)
    vision.features(model, looks(found, photos[0].viewed("noise", 0.5)), CPU)
    assert vision.calls == 2
    other = bench("qwen2_vl", "language", vision=Vision(tmp_path))
    other.engine.vision.features(other.learner.model, looks(other, photos[0]), CPU)
    assert other.engine.vision.calls == 0, "the same tower and picture were not found in the files"
    with torch.no_grad():
        next(iter(other.learner.model.get_base_model().get_encoder(modality="image").parameters())).add_(1e-3)
    changed = Vision(tmp_path)
    changed.features(other.learner.model, looks(other, photos[0]), CPU)
    changed.features(other.learner.model.double(), looks(other, photos[0]), CPU)
    assert changed.calls == 2
    tensors = {"pixel_values": torch.zeros(2, 3), "image_sizes": torch.tensor([[1, 2]])}
    assert len({content_key(t) for t in (tensors, {**tensors, "pixel_values": torch.zeros(3, 2)}, {})}) == 3


def test_adapters_on_the_tower_make_two_towers(photos):
    found = bench("qwen2_vl", "all")
    found.learner.model.requires_grad_(False)
    learnt, same = (found.engine.vision.features(found.learner.model, looks(found, photos[0]), CPU) for _ in range(2))
    with found.learner.model.disable_adapter():
        bare = found.engine.vision.features(found.learner.model, looks(found, photos[0]), CPU)
    assert found.engine.vision.calls == 2
    one, two, off = (seen["image"].pooler_output[0] for seen in (learnt, same, bare))
    assert torch.equal(one, two) and not torch.allclose(one, off)


def test_features_from_files_are_the_same_bits(photos, tmp_path):
    for family in ("qwen3_vl", "internvl", "llava_onevision"):
        first = bench(family, "language", vision=Vision(tmp_path))
        texts = first.texts(asked("describe", *photos[:2])) + first.texts(asked("describe", photos[2]))
        wanted = first.fast_scores(texts).logp_NT
        second = bench(family, "language", vision=Vision(tmp_path, memory=0))
        assert torch.equal(second.fast_scores(texts).logp_NT, wanted) and second.engine.vision.calls == 0


def test_memory_and_disk_are_bounded_and_the_longest_unused_leaves(photos, tmp_path):
    found = bench("qwen2_vl", "language")
    vision = Vision(tmp_path, memory=2100, disk=3000)  # the largest picture has 16 tokens of 32 floats: 2048 bytes
    for _ in range(2):
        for look in looks(found, *photos):
            vision.features(found.learner.model, [look], CPU)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3000
    assert len(vision._known) >= 1 and vision._room >= 0
    assert 4 <= vision.calls <= 8


def test_a_damaged_file_counts_as_none(photos, tmp_path):
    found = bench("qwen2_vl", "language", vision=Vision(tmp_path))
    texts = found.texts(asked("describe", photos[0]))
    wanted = found.fast_scores(texts).logp_NT
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:40])
    found.engine.vision = Vision(tmp_path)
    assert torch.equal(found.fast_scores(texts).logp_NT, wanted) and found.engine.vision.calls == 1


def test_equal_with_caches_warm(photos):
    found = bench("smolvlm", "language")
    texts = found.texts(asked("describe", photos[0])) + found.texts(asked("what ?", *photos[1:3]))
    found.fast_scores(texts)
    error, gradient = both(found, texts)
    assert found.engine.vision.calls == 2 and error <= 1e-5 and gradient <= 1e-5
