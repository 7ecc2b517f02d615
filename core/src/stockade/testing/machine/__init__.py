"""This machine as the suite sees it: what a sandbox leaves on it.

Private to core.
"""
