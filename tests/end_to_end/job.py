"""A job for the kill tests: makes the rows of a recipe, scripted or with the shipped model."""

import sys
import time
from pathlib import Path

from vlm_selfalign.config import load_settings
from vlm_selfalign.core.requests import Choose
from vlm_selfalign.models.scripted import Scripted
from vlm_selfalign.recipe import Run

KINDS = ["boat", "fish", "house", "car", "kite", "ball", "cup", "box"]


class Slow(Scripted):
    """Takes its time, and notes each request it answers."""

    def __init__(self, log: Path) -> None:
        super().__init__(scripted, batch_size=8)
        self.log = log

    def serve(self, requests, seeds):
        """Answer, late."""
        time.sleep(0.004)
        with self.log.open("a") as file:
            file.write("".join(f"{request.digest}\n" for request in requests))
        return super().serve(requests, seeds)


def scripted(request):
    """Texts that depend on the picture and the draw."""
    place = int(request.prompt.media[0].content_hash[:6], 16)
    if isinstance(request, Choose):
        seen = {KINDS[(place + step) % 8] for step in (0, 2, 3)}
        if "Yes" in request.choices:
            return "Yes" if any(kind in request.prompt.question for kind in seen) else "No"
        return request.choices[place % len(request.choices)]
    named = [KINDS[(place + step) % 8] for step in (0, 1 + request.draw % 3, 3)]
    return " ".join(f"There is a {kind} in red." for kind in named)


def main(out: str, log: str, service: str, *overrides: str) -> None:
    """Run to the end, or until somebody kills it."""
    settings = load_settings(["mirror"], [f"out={out}", "measure.probes={}", *overrides])
    run = Run(settings, services={"policy": Slow(Path(log))} if service == "scripted" else None)
    run.execute(only_rows=True)
    run.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
