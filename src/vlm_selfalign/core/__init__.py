"""The nouns everything hangs on; never imports torch."""
