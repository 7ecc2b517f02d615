"""The commands of the command line, one module each.

Private to core: a plug-in adds a command by the hook ``stockade_add_commands``.
"""
