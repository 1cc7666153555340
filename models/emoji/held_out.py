"""The held-out items as phrases, for `zoodip calibrate --exclude`.

`python -m models.emoji.held_out > held-out.txt` writes one phrase a line.
"""

import sys

from models.emoji.world import HeldOut, shipped_world


def held_out_phrases(held: HeldOut) -> list[str]:
    """Return colored objects, shapes and pairs of filters, sorted."""
    colored = [f"{color} {name}" for name, color in held.colored_objects]
    return sorted({*colored, *held.shapes, *(" ".join(style) for style in held.styles)})


if __name__ == "__main__":
    sys.stdout.writelines(f"{phrase}\n" for phrase in held_out_phrases(shipped_world().held_out))
