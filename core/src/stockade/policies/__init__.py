"""The plug-in manager: what policies are asked and observers see, and the log of it."""
