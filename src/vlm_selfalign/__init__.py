"""Vision-language models that train themselves."""
