"""Where samples come from and how rows are shaped."""
