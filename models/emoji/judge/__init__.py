"""The judge: an independent classifier of object, color, pattern, background and style. Not part of the package."""

from models.emoji.judge.network import ATTRIBUTES, Judge, judge_labels, read_judge

__all__ = ["ATTRIBUTES", "Judge", "judge_labels", "read_judge"]
