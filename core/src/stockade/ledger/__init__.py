"""What outlives a process: the ledger, and finding what dead processes left.

Private to core: ``stockade.SqliteLedger`` and ``stockade.collect`` are exported by :mod:`stockade`.
"""
