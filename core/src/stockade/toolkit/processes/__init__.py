"""Programs of this machine as executions: pipes, ends, marks; on any system."""
