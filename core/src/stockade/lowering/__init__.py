"""Shell lines and code made an argument vector, and the text that runs them inside."""

from stockade.lowering.argv import lower
from stockade.lowering.text import inside_text

__all__ = ["inside_text", "lower"]
