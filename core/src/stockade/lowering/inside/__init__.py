"""Code that runs inside a sandbox, sent there as text.

Private to core: :func:`stockade.lowering.inside_text` has the text.
"""
