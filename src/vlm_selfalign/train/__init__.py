"""From rows to a new version of a role."""
