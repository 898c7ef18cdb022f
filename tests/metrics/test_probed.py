"""Rows of probes as measures: clusters are clips, pairs are pairs, and what was chosen cannot be unread."""

import pytest

from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.rows import Labelled
from vlm_selfalign.metrics.probed import probe_measures, probe_parts, self_asked

PROMPT = Prompt.user("?")


def row(measure, label=1.0, **notes):
    return Labelled(prompt=PROMPT, answer=notes.pop("answer", "Yes"), label=label, notes={"measure": measure, **notes})


def closed(said, gold, side, clip="a", pair="1", seconds=None, **notes):
    truth = {"clip": clip, "answer": gold, "pair": pair, "side": side}
    truth |= {"seconds": seconds} if seconds else {}
    return row("event_questions", float(said == gold), said=said, gold=gold, cluster=clip, truth=truth, **notes)


def test_items_of_one_clip_are_one_cluster():
    rows = {f"q{n}": [row("questions", n % 2, cluster="clip 1" if n < 4 else "clip 2")] for n in range(6)}
    found = probe_measures(rows)["questions"]
    assert found.clusters == ("clip 1", "clip 2") and found.value == 0.5
    assert probe_measures({"s": [row("count")]})["count"].clusters == ("s",)


def test_numerator_and_denominator_of_the_notes_win():
    found = probe_measures({"s": [row("kl_per_token", num=0.5, den=10), row("kl_per_token", num=0.1, den=20)]})
    assert found["kl_per_token"].value == pytest.approx(0.02) and found["kl_per_token"].lower_is_better


def test_pairs_and_the_lean_to_yes():
    always_yes = {"a": [closed("yes", "yes", "basic"), closed("yes", "no", "hallucination")]}
    found = {name: measure.value for name, measure in probe_measures(always_yes).items()}
    assert found == {
        "event_questions": 0.5,
        "event_questions/both_right": 0,
        "event_questions/hallucinated": 1,
        "event_questions/yes_difference": 0.5,
        "event_questions/no_difference": -0.5,
        "event_questions/false_positive_ratio": 1,
        "event_questions/unparsed": 0,
    }
    chosen = {"a": [closed(r.notes["said"], r.notes["gold"], r.notes["truth"]["side"], p_yes=0.9)
                    for r in always_yes["a"]]}  # fmt: skip
    assert found.keys() - probe_measures(chosen).keys() == {"event_questions/no_difference", "event_questions/unparsed"}


def test_parts_by_length_and_frames_leave_the_whole_alone():
    rows = {
        "a": [closed("yes", "yes", "basic", "a", "1", 5.0), closed("no", "yes", "basic", "a", "1", 5.0, frames=2)],
        "b": [closed("yes", "yes", "basic", "b", "2", 90.0), closed("yes", "yes", "basic", "b", "2", 90.0, frames=2)],
    }
    assert probe_measures(rows)["event_questions"].value == 1, "what was asked with fewer frames is no part of it"
    found = probe_parts(rows, shown=8)["event_questions"]
    assert {name: one.value for name, one in found["frames"].items()} == {"2": 0.5, "8": 1}
    assert list(found["length"]) == ["under 10 s", "60 to 240 s"] and found["length"]["under 10 s"].den == 1
    assert probe_parts({"a": rows["a"][:1]}, shown=8) == {}, "one part is no division"


def test_kinds_of_own_questions():
    texts = ["Where is it?", "where is it?", "What colour is it?"]
    kinds = ["place", "place", None]
    rows = {"s": [row("questions_answerable", answer=t, kind=k) for t, k in zip(texts, kinds, strict=True)]}
    found = self_asked(rows)
    assert (found["questions"], found["distinct"]) == (3, 2)
    assert [(kind["kind"], kind["count"]) for kind in found["kinds"]] == [("place", 2), ("none", 1)]
    assert self_asked({"s": [row("count")]}) is None
