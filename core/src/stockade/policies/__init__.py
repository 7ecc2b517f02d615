"""The plug-in manager: what policies are asked and observers see, and the log of it.

Private to core: authors of policies and observers use :mod:`stockade.plugin`;
``stockade.AuditLog`` and ``stockade.inspect_plugins`` are exported by :mod:`stockade`.
"""
