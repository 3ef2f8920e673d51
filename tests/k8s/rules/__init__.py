"""Rules about how objects fit together, which no schema knows."""

from . import life, network, numbers, references, rights
from .registry import RULES

__all__ = ["RULES", "life", "network", "numbers", "references", "rights"]
