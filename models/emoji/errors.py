"""Exceptions raised while the embedded model is built."""


class EmojiModelError(Exception):
    """The embedded model cannot be built."""


class WorldError(EmojiModelError):
    """A world file is missing, malformed, or names something unknown."""


class LeakError(EmojiModelError):
    """Training data contains a held-out item."""


class SpriteError(EmojiModelError):
    """A sprite is missing or does not match its pinned hash."""


class CheckpointError(EmojiModelError):
    """A checkpoint cannot be read or written, or does not match the training."""


class DivergedError(EmojiModelError):
    """The loss or a weight is not finite."""


def in_one_line(error: Exception) -> str:
    """Return a library's error as one line, without the advice after its first two lines."""
    return " ".join(" ".join(str(error).splitlines()[:2]).split()) or type(error).__name__
