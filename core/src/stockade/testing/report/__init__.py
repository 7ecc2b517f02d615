"""What a run of the suite found: its data, its page, its table.

Private to core: ``stockade conformance`` writes and reads reports.
"""
