"""The tiny open_clip model of the drawn world: what it is, what it learns from, how it learns, what it must pass."""
