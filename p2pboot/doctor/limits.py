"""How long an examination may take; known to commands and nodes before anything slow is imported."""

from typing import Final

USUAL_S: Final = 45.0
"""For all checks together, unless somebody says otherwise."""

LONGEST_S: Final = 120.0
"""The most that somebody may say."""
