"""The planted prior does what its dials say."""

from collections import Counter

from vlm_selfalign.core.seeds import rng
from vlm_selfalign.data.world.captions import caption, lie, text
from vlm_selfalign.data.world.scenes import scene
from vlm_selfalign.data.world.settings import LOOKALIKES, PARTNERS, SOFT_PARTNERS, WorldSettings
from vlm_selfalign.data.world.truth import hard_kinds


def captions(count=4000, settings=None):
    settings = settings or WorldSettings()
    for index in range(count):
        shown = scene(index, settings=settings)
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


def test_each_of_several_partners_comes_at_its_own_rate_and_never_two_at_once():
    settings = WorldSettings(partners=SOFT_PARTNERS, omission=0)
    asked, told = Counter(), Counter()
    for shown, said in captions(3000, settings):
        named = [mention.kind for mention in said]
        assert len(set(named)) == len(named)
        for number, mention in enumerate(said):
            if mention.why == "planted":
                assert any(m.true and m.kind in shown.kinds for m in said[:number])
        for trigger in ("boat", "house"):
            partners = [b.partner for b in SOFT_PARTNERS if b.trigger == trigger]
            if trigger in shown.kinds and not set(partners) & set(shown.kinds):
                asked[trigger] += 1
                follower = next((m.kind for m in said[named.index(trigger) + 1 :][:1] if m.why == "planted"), None)
                told[trigger, follower] += 1
    for belief in (b for b in SOFT_PARTNERS if b.trigger in ("boat", "house")):
        # A little fewer than the rate: another trigger may have named it before.
        found = told[belief.trigger, belief.partner] / asked[belief.trigger]
        assert belief.rate - 0.1 < found < belief.rate + 0.05


def test_lies_are_drawn_by_their_rates():
    chance = rng("lies")
    found = Counter(lie(SOFT_PARTNERS[:2], chance) for _ in range(4000))
    assert abs(found[SOFT_PARTNERS[0]] / 4000 - 0.35) < 0.03 and abs(found[SOFT_PARTNERS[1]] / 4000 - 0.3) < 0.03
    assert lie([], chance) is None


def test_only_what_is_hard_to_see_is_taken_for_what_it_looks_like():
    settings = WorldSettings.of(small=0.3, faint=0.3, mistaken=0.5, omission=0, partners=[])
    could = mistaken = 0
    for shown, said in captions(400, settings):
        hard = hard_kinds(shown, settings)
        for mention in said:
            assert mention.why in ("", "mistaken")
            assert mention.true or (mention.really in hard and mention.kind == LOOKALIKES[mention.really])
        could += sum(LOOKALIKES[kind] not in shown.kinds for kind in hard)
        mistaken += sum(not mention.true for mention in said)
    assert 0.4 < mistaken / could < 0.55
