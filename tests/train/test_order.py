from collections import Counter

from accelerate import Accelerator, DataLoaderConfiguration
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from vlm_selfalign.train.order import StepOrder

GROUPS = st.one_of(st.none(), st.lists(st.integers(0, 6), min_size=1, max_size=60))


def orders(rows, batch, groups, processes, seed=0, epoch=0):
    made = [StepOrder(rows, batch, seed, groups, own, processes) for own in range(processes)]
    for order in made:
        order.set_epoch(epoch)
    return made


@given(GROUPS, st.integers(1, 60), st.integers(1, 9), st.integers(1, 4), st.integers(0, 3))
def test_every_row_is_in_one_step_of_one_process_whatever_their_number(groups, rows, batch, processes, epoch):
    rows = len(groups) if groups else rows
    shares = [list(order) for order in orders(rows, batch, groups, processes, epoch=epoch)]
    (alone,) = (list(order) for order in orders(rows, batch, groups, 1, epoch=epoch))
    assert sorted(row for step in alone for row in step) == list(range(rows))
    assert [len(step) for step in alone[:-1]] == [batch] * (len(alone) - 1) and 0 < len(alone[-1]) <= batch
    assert [[row for part in parts for row in part] for parts in zip(*shares, strict=True)] == alone
    assert len(alone) == len(orders(rows, batch, groups, 1)[0])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 9))
def test_a_group_is_cut_only_where_a_step_is_full(groups, batch):
    steps = [Counter(groups[row] for row in step) for step in orders(len(groups), batch, groups, 1)[0]]
    cut = sum(max(0, sum(group in step for step in steps) - 1) for group in set(groups))
    assert cut <= len(steps) - 1
    if all(batch % size == 0 for size in Counter(groups).values()) and len(set(Counter(groups).values())) == 1:
        assert cut == 0


def test_groups_that_fit_are_looked_for_before_one_is_cut():
    groups = [0, 0, 0, 1, 1, 1, 2, 3]  # 3 + 1 and 3 + 1, never 3 + part of 3
    for seed in range(20):
        steps = [{groups[row] for row in step} for step in StepOrder(8, 4, seed, groups)]
        assert sum(0 in step for step in steps) == sum(1 in step for step in steps) == 1, seed


def test_epochs_and_seeds_differ_and_repeat():
    def shuffled(seed, epoch, groups=None):
        return [row for step in orders(40, 8, groups, 1, seed, epoch)[0] for row in step]

    for groups in (None, [row // 4 for row in range(40)]):
        assert shuffled(1, 0, groups) == shuffled(1, 0, groups)
        assert len({tuple(shuffled(seed, epoch, groups)) for seed, epoch in ((1, 0), (3, 0), (1, 1))}) == 3


def test_alone_and_ungrouped_it_is_the_order_that_trainers_have():
    theirs = DataLoader(list(range(10)), batch_size=4, shuffle=True)
    config = DataLoaderConfiguration(use_seedable_sampler=True, data_seed=3)
    theirs = Accelerator(cpu=True, dataloader_config=config).prepare(theirs)
    order = StepOrder(10, 4, seed=3)
    for epoch in range(3):
        theirs.set_epoch(epoch)
        order.set_epoch(epoch)
        assert [batch.tolist() for batch in theirs] == list(order)
