"""Teaches the embedded model from nothing: ``python -m vlm_selfalign.pretrain --out DIR``.

First the vision tower learns to say what each cell holds, in the words' own embeddings; then, with its features
frozen and cached, the language model learns a curriculum of small tasks (``tasks/``, one file each).
"""
