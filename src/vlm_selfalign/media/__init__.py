"""Opening pictures and clips, and the views of them."""
