"""What walls may build on, core's own and anybody's; core itself never imports it.

- :mod:`stockade.toolkit.processes`: programs of this machine,
- :mod:`stockade.toolkit.local`: sandboxes that are processes of this machine,
- :mod:`stockade.toolkit.supervised`: executions by the supervisor in a sandbox,
- :mod:`stockade.toolkit.egress`: the gateway to allowed hosts,
- :mod:`stockade.toolkit.mounts`, :mod:`stockade.toolkit.kvm` and :mod:`stockade.toolkit.anew`:
  helpers of single walls.

What these packages export is promised to walls; their other modules are their own.
"""

__all__ = ["anew", "egress", "kvm", "local", "mounts", "processes", "supervised"]
