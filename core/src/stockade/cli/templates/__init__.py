"""Files that ``stockade new-plugin`` fills in; data, nothing to import.

Private to core.
"""
