"""Test data: a provider 'local'."""

from stockade.plugin import hookimpl
from stockade.wall import Availability, Wall

STOCKADE_API_VERSION = 1


class LocalWall(Wall):
    summary = "test data"

    def probe(self):
        from stockade.wall import Check

        return Availability((Check("engine", True, "the test's engine", "start it"),))

    def open(self, request):
        raise NotImplementedError


@hookimpl
def stockade_wall():
    return LocalWall
