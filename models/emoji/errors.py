"""What can go wrong while the embedded model is made: one clear message each."""


class EmojiModelError(Exception):
    """The embedded model could not be made."""


class WorldError(EmojiModelError):
    """A list of the world names something that the world does not have."""


class LeakError(EmojiModelError):
    """Something held out occurs in what is trained on."""


class SpriteError(EmojiModelError):
    """The sprites are missing or not those that were pinned."""


class CheckpointError(EmojiModelError):
    """A checkpoint cannot be read or written: truncated, of another training, or no room for it."""


class DivergedError(EmojiModelError):
    """A training has left the finite numbers."""


def in_one_line(error: Exception) -> str:
    """What a library says, without the advice that follows its first two lines."""
    return " ".join(" ".join(str(error).splitlines()[:2]).split()) or type(error).__name__
