"""From a string to a provider: the string, discovery, availability, preference.

Private to core: callers use ``stockade.provider`` and ``stockade.open``, which take the string.
"""
