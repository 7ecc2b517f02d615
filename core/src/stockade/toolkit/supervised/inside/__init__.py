"""What runs inside a sandbox, sent there as text: Python 3.6 and built-in modules must do.

Private to core: nothing here is imported on this side but by checkers and tests.
"""
