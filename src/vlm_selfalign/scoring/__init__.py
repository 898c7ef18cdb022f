"""Generators over requests that say what an answer is worth; no torch."""
