"""The process and the machine that core runs in: threads, forks, moments, owners.

Plug-ins may use six modules: ``threads`` (a thread where the system may have none to give),
``forks`` (what a forked child must renew), ``installing`` (how to install a distribution),
``moments`` (a time as text that survives a changed clock), ``own_files`` (files that decide
something, and whose they are) and ``versions`` (whether an adapter was tested with a framework).
The others are private to core. Nothing is imported here, since a keeper's process and ``import
stockade`` need few of them.
"""

__all__ = ["forks", "installing", "moments", "own_files", "threads", "versions"]
