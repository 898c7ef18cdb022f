"""Published benchmarks of clips, in the files their authors give out: each a source of closed questions.

``data: {source: videohallucer, path: videohallucer_datasets}``; nothing is downloaded, and the clips are the user's.
"""

# Imported so that their sources are found by name.
from vlm_selfalign.data.benchmarks import mvbench, tempcompass, videohallucer, videomme

__all__ = ["mvbench", "tempcompass", "videohallucer", "videomme"]
