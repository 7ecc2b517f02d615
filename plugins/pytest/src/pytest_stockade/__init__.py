"""pytest fixtures for what runs in sandboxes; see :mod:`pytest_stockade.plugin`."""
