import torch

from train.engine.made import asked, bench
from vlm_selfalign.train.engine.reference import Opinion, ReferenceStore


def opinion(text, hidden=True):
    logp = torch.randn(text.scored)
    return Opinion(logp, torch.randn(text.scored, 4, dtype=torch.bfloat16) if hidden else None)


def test_the_same_bits_come_back_after_closing(photos, tmp_path):
    found = bench("qwen2_vl", "language")
    texts = found.texts(asked("describe", photos[0]))
    kept = [opinion(text) for text in texts]
    store = ReferenceStore(tmp_path, "me")
    store.keep(list(zip(texts, kept, strict=True)))
    store.close()
    again = ReferenceStore(tmp_path, "me", process=1)
    for text, known in zip(texts, kept, strict=True):
        got = again.find(text, hidden=True)
        assert torch.equal(got.logp_S, known.logp_S) and torch.equal(got.hidden_SD, known.hidden_SD)


def test_another_model_another_picture_or_another_text_is_not_known(photos, tmp_path):
    found = bench("qwen2_vl", "language")
    text, other = found.texts(asked("describe", photos[0]))
    (seen,) = found.texts(asked("describe", photos[0].viewed("noise", 0.5)), (text.answer,))
    assert seen.ids == text.ids
    store = ReferenceStore(tmp_path, "me")
    store.keep([(text, opinion(text))])
    assert store.find(text) and store.find(other) is None and store.find(seen) is None
    assert ReferenceStore(tmp_path, "you", process=1).find(text) is None


def test_states_that_were_never_kept_or_are_damaged_make_it_unknown(photos, tmp_path):
    found = bench("qwen2_vl", "language")
    text, other = found.texts(asked("describe", photos[0]))
    store = ReferenceStore(tmp_path, "me")
    store.keep([(text, opinion(text, hidden=False)), (other, opinion(other))])
    assert store.find(text) and store.find(text, hidden=True) is None and store.find(other, hidden=True)
    for path in (tmp_path / "states").iterdir():
        path.write_bytes(b"")
    assert store.find(other, hidden=True) is None


def test_in_memory_only(photos):
    found = bench("qwen2_vl", "language")
    text, other = found.texts(asked("describe", photos[0]))
    store = ReferenceStore(None, "me")
    kept = opinion(text)
    store.keep([(text, kept)])
    assert store.find(text, hidden=True) is kept and store.states(other) is None
