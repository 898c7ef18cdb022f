"""Eight papers, each bending the house another way, on the core alone and with canned replies."""
