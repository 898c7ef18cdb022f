"""One measurement per file: a table out."""
