from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.rows import Origin, Pair
from vlm_selfalign.metrics.audit import audit
from vlm_selfalign.scoring.vocabulary import Vocabulary

WORDS = Vocabulary.load("world_clips")
TRUTH = {
    "objects": [{"kind": "boat"}, {"kind": "star"}],
    "events": [{"action": "move", "kind": "boat", "direction": "left"}],
}


def pair(chosen, rejected, sample="s", **more):
    return Pair(prompt=Prompt.user("?"), chosen=chosen, rejected=rejected, origin=Origin(sample=sample), **more)


def test_false_things_and_false_events_by_side():
    pairs = [
        pair("The boat moves to the left.", "The boat moves to the right."),  # a false event
        pair("There is a star.", "There is a cup."),  # a false thing
        pair("The boat moves.", "The star does not move."),  # nothing is false, a denial claims nothing
        pair("A tree vanishes.", "A tree.", sample="nobody knows"),
    ]
    found = audit(pairs, {"s": TRUTH}, WORDS)
    assert (found["pairs"], found["chosen_false"], found["rejected_false"]) == (4, 0, 2 / 3)
    counts = {one["name"]: (one["chosen"], one["rejected"]) for one in found["names"]}
    assert counts["boat moves left"] == (1, 0) and counts["boat moves right"] == (0, 1)
    assert counts["boat"] == (2, 1) and counts["star"] == (1, 1) and counts["cup"] == (0, 1)


def test_an_end_is_a_name_and_without_truth_nothing_is_judged():
    found = audit([pair("", "There is a star.", chosen_ends=True)], {}, WORDS)
    assert found["chosen_false"] is None and found["rejected_false"] is None
    assert {"name": "(end)", "chosen": 1, "rejected": 0} in found["names"]
    assert audit([], {}, WORDS) is None
