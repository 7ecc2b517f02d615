"""Record executions behind any wall, and answer the same requests from the file.

with stockade_replay.record("calls.jsonl"):
    my_application(provider="gvisor:python:3.12-slim")
my_application(provider="replay:calls.jsonl")     # in its tests: nothing is executed
"""

from __future__ import annotations

from stockade_replay.recorder import Recorder, record
from stockade_replay.recording import NotRecordedError, Recording, RecordingError

__all__ = ["NotRecordedError", "Recorder", "Recording", "RecordingError", "record"]
