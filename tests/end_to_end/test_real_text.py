"""The text recipe on a real language model: own answers, own certainty, DPO on an adapter, and the model has moved."""

import json

import vlm_selfalign as sa


def test_smollm2_learns_from_its_own_answers(smollm2_folder, tmp_path):
    small = ["stages.pairs.samples=2", "stages.pairs.max_tokens=6", "stages.policy.epochs=1"]
    result = sa.run(
        *["self_certainty", "smollm2_135m", "size=smoke", "data.limit=4", f"out={tmp_path}/run", *small],
        show=lambda line: None,
        verb="train",
    )
    pairs = result.rows("pairs")
    assert pairs and all(pair.chosen != pair.rejected for pair in pairs)
    words = " ".join(pair.chosen for pair in pairs).split()
    assert sum(word.strip(".,'\"").isalpha() for word in words) > len(words) / 2, words
    log = [json.loads(line) for line in (result.policy / "log.jsonl").read_text().splitlines()]
    assert abs(log[0]["loss"] - 0.6931) < 0.02
    assert (result.policy / "adapter_model.safetensors").is_file()
