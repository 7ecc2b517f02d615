"""Test data: an embedded wall 'inhouse', which holds everything by its own words."""

from stockade.capabilities import Capabilities, Feature, Isolation
from stockade.plugin import hookimpl
from stockade.wall import Availability, Wall

STOCKADE_API_VERSION = 1


class InhouseWall(Wall):
    summary = "test data"
    capabilities = Capabilities(dict.fromkeys(Feature, "native"))
    isolation = Isolation.CONTAINER

    def probe(self):
        return Availability()

    def open(self, request):
        raise NotImplementedError


@hookimpl
def stockade_wall():
    return InhouseWall
