"""What is said as text, made values and back; and values that nobody changes.

Walls may use ``options``, the converters of their own options. The others are private to core.
"""

__all__ = ["options"]
