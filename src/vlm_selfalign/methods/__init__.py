"""One self-training method per file: rows out."""
