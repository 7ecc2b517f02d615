"""Many sessions: their states, their capacity, their lifetimes, and who owns them.

Private to core: ``stockade.Runtime``, ``stockade.Settings`` and the functions that configure them
are exported by :mod:`stockade`.
"""
