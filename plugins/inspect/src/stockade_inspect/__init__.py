"""stockade's walls as sandboxes of inspect-ai.

inspect finds them by itself once this distribution is installed: the type ``stockade``, and one for
each installed wall, such as ``stockade-gvisor``. A task needs a name, and ``StockadeConfig`` where
it states in Python what a file would.
"""

from stockade_inspect._tested import TESTED
from stockade_inspect.config import StockadeConfig

__all__ = ["TESTED", "StockadeConfig"]
