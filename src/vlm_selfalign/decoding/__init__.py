"""One inference-time method per file: an answer out."""
