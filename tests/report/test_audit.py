"""The audit warns of falsehoods on the wrong side and of words that are always blamed."""

from __future__ import annotations

from vlm_selfalign.report.audit import audit_of


def names(*counts: tuple[str, int, int]) -> list[dict[str, object]]:
    return [{"name": name, "chosen": chosen, "rejected": rejected} for name, chosen, rejected in counts]


def test_balanced_pairs_give_no_warning() -> None:
    found = audit_of({"pairs": 10, "chosen_false": 0.01, "rejected_false": 0.6, "names": names(("fish", 99, 101))})
    assert found is not None and found.warnings == ()


def test_a_word_that_is_only_rejected_is_named() -> None:
    found = audit_of({"pairs": 10, "names": names(("fish", 3, 130), ("(end)", 40, 50), ("rare", 0, 9))})
    assert found is not None
    (warning,) = found.warnings
    assert "1 of 3 names" in warning and "fish (3 : 130)" in warning
    assert [name for name, _, _ in found.names] == ["(end)", "fish", "rare"]


def test_falsehoods_must_stand_on_the_rejected_side_five_times_as_often() -> None:
    for chosen, rejected, warned in ((0.29, 0.007, True), (0.1, 0.5, False), (0.0, 0.0, False), (None, 0.2, False)):
        found = audit_of({"pairs": 10, "chosen_false": chosen, "rejected_false": rejected, "names": []})
        assert found is not None and bool(found.warnings) is warned


def test_nothing_to_audit() -> None:
    assert audit_of(None) is None and audit_of({}) is None
