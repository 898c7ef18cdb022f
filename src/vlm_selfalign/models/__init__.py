"""Whoever answers requests; torch lives here, in `train` and in `media`."""
