"""The DreamBooth protocol of the paper, with photos."""
