from pathlib import Path

from vlm_selfalign.core.media import Media
from vlm_selfalign.core.prompts import Prompt
from vlm_selfalign.core.rows import Pair
from vlm_selfalign.train.fit import FitSpec


def text_pairs(count: int) -> list[Pair]:
    return [
        Pair(
            prompt=Prompt.user(f"what colour is ball {i} ?"),
            chosen=f"the ball {i} is red ." + " there is a dog" * (i % 3),
            rejected=f"a dog {i} runs",
            index=i,
        )
        for i in range(count)
    ]


def photo_pairs(photos: list[Media], count: int = 4) -> list[Pair]:
    return [
        Pair(
            prompt=Prompt.user("describe the picture", photos[i % len(photos)]),
            chosen=f"the red ball {i} stands on the table",
            rejected=f"there is a dog {i} and a cat",
            chosen_spans=((4, 12),),
            rejected_spans=((11, 14),),
            index=i,
        )
        for i in range(count)
    ]


def written(rows: list, path: Path) -> str:
    path.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    return str(path)


def spec_for(folder: Path, rows: list, start: Path, **given) -> FitSpec:
    folder.mkdir(parents=True, exist_ok=True)
    schedule = {"learning_rate": 1e-3, "batch_size": 4, "epochs": 2, **given.pop("schedule", {})}
    training = {"micro_batch": 2, **given.pop("training", {})}
    model = {"device": "cpu", **given.pop("model", {})}
    return FitSpec(
        start=str(start),
        rows=written(rows, folder / "rows.jsonl"),
        out=str(folder / "out"),
        schedule=schedule,
        training=training,
        model=model,
        **given,
    )
