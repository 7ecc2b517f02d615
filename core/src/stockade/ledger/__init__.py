"""What outlives a process: the ledger, and finding what dead processes left."""
