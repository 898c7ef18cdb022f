import pytest

from vlm_selfalign.config import Schedule, TrainingSettings
from vlm_selfalign.train.estimate import rows_at_once, tokens_of_row


def test_a_shared_prompt_counts_once():
    assert tokens_of_row(1000, 100) == 1200 and tokens_of_row(1000, 100, shared=False) == 2200
    assert tokens_of_row(1000, 100, texts=1) == tokens_of_row(1000, 100, texts=1, shared=False) == 1100


@pytest.mark.parametrize(
    "given, batch, rows",
    [
        ({"micro_batch": 8}, 16, 8),
        ({"micro_batch": 8}, 10, 5),
        ({"micro_batch": 8}, 4, 4),
        ({"micro_batch": 8, "processes": 4}, 16, 4),
        ({"micro_batch": 8, "max_tokens": 3600}, 16, 3),
        ({"micro_batch": 8, "max_tokens": 1199}, 16, 0),
    ],
)
def test_rows_at_once(given, batch, rows):
    assert rows_at_once(TrainingSettings(**given), Schedule(batch_size=batch), 1200) == rows
