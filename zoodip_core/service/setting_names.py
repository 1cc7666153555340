"""Names of environment variables: a misspelled one must not be ignored."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection

from zoodip_core.errors import InvalidSettingsError

_MISSPELLED = 0.88  # similarity from which an unknown name is taken for a misspelled one


def check_spelling(prefix: str, known: Collection[str]) -> None:
    """Validate the names of the variables that begin with a prefix.

    Only near misses are refused, because orchestrators set variables with such names, too.

    Args:
        prefix: beginning of the names of settings.
        known: names of the settings, without the prefix and in lower case.

    Raises:
        InvalidSettingsError: A variable has nearly the name of a setting; the message has the right one.
    """
    for variable in sorted(name for name in os.environ if name.startswith(prefix)):
        name = variable.removeprefix(prefix).lower()
        near = difflib.get_close_matches(name, known, n=1, cutoff=_MISSPELLED)
        if name not in known and near:
            raise InvalidSettingsError.mismatch(
                variable, got="an unknown setting", expected=f"{prefix}{near[0].upper()}"
            )
