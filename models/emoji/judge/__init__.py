"""The independent judge: a classifier of thing, tint, pattern, ground and style. Not shipped in the package."""

from models.emoji.judge.network import ATTRIBUTES, Judge, judge_labels, read_judge

__all__ = ["ATTRIBUTES", "Judge", "judge_labels", "read_judge"]
