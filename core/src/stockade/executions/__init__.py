"""From one request to one result: forms, languages, output, verdicts, terminals.

Private to core: callers use what :mod:`stockade.session` and :mod:`stockade.aio` give them, and
``stockade.Execution``, which is exported by :mod:`stockade`.
"""
