"""The everyday face: a session object over a provider, and how one is opened."""

from stockade.session._opening import open_session
from stockade.session._session import DEFAULT_AGENT, RunOptions, Session

__all__ = ["DEFAULT_AGENT", "RunOptions", "Session", "open_session"]
