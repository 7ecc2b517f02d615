"""Code that runs inside a sandbox, sent there as text."""
