"""The fast preference step: each prompt with its pictures once, its answers as branches, at equal gradients."""
