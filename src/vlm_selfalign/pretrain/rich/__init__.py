"""The embedded model's second edition: pictures of the rich world, clips, and text, in one curriculum.

``python -m vlm_selfalign.pretrain.rich --out DIR [--seed 0]``; the first edition stays as it is beside it.
"""
