"""How far a run is, read from its directory alone, alive or dead."""

from __future__ import annotations

import json
import time
from pathlib import Path

from vlm_selfalign.core.errors import UserError
from vlm_selfalign.core.ledger import holder
from vlm_selfalign.core.lines import growing_lines


def describe_run(folder: str | Path) -> list[str]:
    """A few lines: who holds it, which stage it is at, what each stage made and lost, what comes next."""
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder}: not a run directory (no run.json)")
    alive = holder(folder)
    lines = [f"{folder}: " + (f"running, {alive}" if alive else "not running; the same command continues it")]
    lines += _progress(folder)
    for path in sorted(folder.glob("rounds/*/*.jsonl")):
        with path.open("rb") as file:
            lines.append(f"  round {path.parent.name} {path.stem}: {sum(1 for _ in file)} rows")
    for path in sorted(folder.glob("rounds/*/*/MANIFEST.json")):
        lines.append(f"  round {path.parts[-3]} {path.parent.name}: trained")
    for drop in growing_lines(folder / "drops.jsonl"):
        lines.append(f"  round {drop['round']} {drop['stage']}: dropped {drop['count']} x {drop['reason']}")
    for name in ("metrics.json", "report.html"):
        if (folder / name).exists():
            lines.append(f"  {name} written")
    return lines


def _progress(folder: Path) -> list[str]:
    path = folder / "progress.json"
    if not path.exists():
        return []
    state = json.loads(path.read_text())
    age = time.time() - state["time"]
    return [f"  round {state['round']} {state['stage']}: {state['done']} of {state['total']}, {age:.0f} s ago"]
