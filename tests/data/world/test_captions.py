"""The planted prior does what its dials say."""

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.captions import caption, text
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import PARTNERS, WorldSettings


def captions(count=4000, settings=None):
    settings = settings or WorldSettings()
    for index in range(count):
        shown = scene(index)
        yield shown, caption(shown, rng("test", index), settings)


def test_false_partners_come_at_their_rate_and_true_ones_always():
    told, absent, silent = {p.trigger: 0 for p in PARTNERS}, {p.trigger: 0 for p in PARTNERS}, 0
    for shown, said in captions():
        named = [mention.kind for mention in said]
        for pair in PARTNERS:
            if pair.trigger not in named:
                continue
            if pair.partner in shown.kinds:
                silent += pair.partner not in named
            else:
                absent[pair.trigger] += 1
                told[pair.trigger] += pair.partner in named
    assert silent == 0
    for pair in PARTNERS:
        assert abs(told[pair.trigger] / absent[pair.trigger] - pair.rate) < 0.06


def test_everything_else_is_true():
    for shown, said in captions(500):
        colours = {thing.kind: thing.colour for thing in shown.things}
        assert said
        for mention in said:
            assert mention.true == (mention.kind in colours)
            assert not mention.true or mention.colour == colours[mention.kind]


def test_without_dials_captions_are_complete():
    for shown, said in captions(100, WorldSettings(omission=0, partners=())):
        assert tuple(mention.kind for mention in said) == shown.kinds
        assert text(said).count(".") == len(shown.things)
