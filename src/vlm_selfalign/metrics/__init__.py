"""What was measured: per-item rows first, aggregates after."""
