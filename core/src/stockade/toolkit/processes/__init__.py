"""Programs of this machine as executions: pipes, ends, marks; on any system."""

__all__ = ["children", "marks", "pump"]
