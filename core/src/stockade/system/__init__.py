"""The process and the machine that core runs in: threads, forks, moments, owners."""
