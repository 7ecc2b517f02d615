"""The alternatives of a preference, tried in order: what is taken, what was passed over (A7)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from stockade.capabilities import Feature, Isolation, refuse
from stockade.config import SandboxConfig
from stockade.errors import (
    DuplicateProviderError,
    PluginError,
    ProviderNotFoundError,
    ProviderStringError,
    ProviderUnavailableError,
    SandboxStartError,
    StockadeError,
    UnsupportedError,
    WallError,
)
from stockade.selection._candidates import Candidate, Candidates
from stockade.selection._discovery import OWN_EMBEDDED, PUBLISHED, embedded
from stockade.selection._probing import Probing
from stockade.selection._spec import Preference, ProviderString
from stockade.system.installing import install
from stockade.values.options import nearest

__all__ = ["LOCAL", "PASSED_OVER", "Alternatives", "PassedOver", "check_holds", "each"]

_log = logging.getLogger(__name__)

#: The name that stands for the embedded walls, the strongest first (A7).
LOCAL = "local"
#: With these an alternative is passed over. They come before anything of the caller's runs:
#: what is not installed or not available, what cannot hold what is asked, a sandbox that does
#: not start (no such image, a runtime that only bears the name), a wall that is broken.
PASSED_OVER = (
    DuplicateProviderError,
    PluginError,
    ProviderNotFoundError,
    ProviderUnavailableError,
    SandboxStartError,
    UnsupportedError,
    WallError,
)
_STRENGTH = tuple(Isolation)


@attrs.frozen
class PassedOver:
    """An alternative that was not taken, and why."""

    provider: str  #: name and target; no options, since a value may be a secret (B4)
    reason: str
    embedded: bool = False  #: it was tried since ``local`` stands for it, and nobody named it


def each(preference: Preference) -> list[ProviderString]:
    """Every wall that is named, ``local`` written out: for what looks at all of them."""
    found: list[ProviderString] = []
    for spec in preference.alternatives:
        if spec.name == LOCAL:
            _check_local(spec)
            own, others = embedded()
            found += [attrs.evolve(spec, name=name) for name in (*own, *others)]
        else:
            found.append(spec)
    return list({str(spec): spec for spec in found}.values())


def check_holds(found: Candidate, needs: Sequence[Feature | str]) -> None:
    """Raise UnsupportedError if the wall cannot hold what is asked of it."""
    have = found.wall.capabilities
    refuse(found.spec.name, found.config, have)
    for feature in needs:
        have.require(feature, found.spec.name, "choose a wall that has it.")


class Alternatives:
    """What is left of a preference, for one provider; used from one thread at a time."""

    def __init__(
        self,
        preference: Preference,
        candidates: Candidates,
        probing: Probing,
        config: Mapping[str, Any],
        needs: Sequence[Feature | str] = (),
    ) -> None:
        self.passed_over: list[PassedOver] = []
        self._preference = preference
        self._candidates = candidates
        self._probing = probing
        self._config = config
        self._needs = needs
        self._errors: list[StockadeError] = []
        self._left = self._expanded()
        self._exhausted = False
        self._present = ("", False)

    def next(self) -> Candidate:
        """The next one that is available and holds what is asked.

        Raises UnsupportedError where all of them lack something, else
        ProviderUnavailableError, with each one's reason; called again after that, it begins
        with the first. What is wrong in a string itself raises ProviderStringError or
        ConfigError at once.
        """
        if self._exhausted:
            self._errors, self.passed_over = [], []
            self._left, self._exhausted = self._expanded(), False
        for spec, by_local in self._left:
            self._present = spec.label, by_local
            try:
                found = self._build(spec)
                if by_local and found.wall.isolation is Isolation.NONE:
                    raise UnsupportedError(f"{spec.name} isolates nothing; name it to have it.")
                self._probing.require(spec.name, found.wall)
                check_holds(found, self._needs)
            except PASSED_OVER as error:
                self.pass_over(error)
                continue
            return found
        self._exhausted = True
        raise self._none() from (self._errors[-1] if self._errors else None)

    def pass_over(self, error: StockadeError) -> None:
        """Go on from the alternative that ``next`` gave last; ``error`` says why."""
        label, by_local = self._present
        self._errors.append(error)
        self.passed_over.append(PassedOver(label, str(error), by_local))
        level = logging.INFO if by_local else logging.WARNING
        _log.log(level, "passed over %s: %s", label, error)

    def _build(self, spec: ProviderString) -> Candidate:
        restricted_by = self._preference.source if self._preference.restricted else ""
        return self._candidates.build(spec, self._config, alone=False, restricted_by=restricted_by)

    def _expanded(self) -> Iterator[tuple[ProviderString, bool]]:
        """Each alternative once, and whether it is there since ``local`` stands for it."""
        tried: set[str] = set()
        for spec in self._preference.alternatives:
            if spec.name != LOCAL:
                tried.add(str(spec))
                yield spec, False
                continue
            _check_local(spec)
            for name in self._embedded():
                one = attrs.evolve(spec, name=name)
                if str(one) not in tried:  # it may have been named before
                    tried.add(str(one))
                    yield one, True

    def _embedded(self) -> Iterator[str]:
        """The project's own are tried before any other plug-in is imported."""
        own, others = self._candidates.embedded()
        if not own and not others:
            self._present = LOCAL, False
            how = " or ".join(install(PUBLISHED[name]) for name in OWN_EMBEDDED)
            self.pass_over(ProviderNotFoundError(f"no embedded wall is installed; run: {how}"))
        yield from own
        yield from sorted(others, key=self._weakness)

    def _weakness(self, name: str) -> int:
        try:
            isolation: object = self._candidates.isolation(name)
        except StockadeError:  # it is raised again when the name's turn comes
            return 0
        known = isolation if isinstance(isolation, Isolation) else Isolation.NONE
        return -_STRENGTH.index(known)

    def _none(self) -> StockadeError:
        reasons = " ".join(f"[{one.provider}] {one.reason}" for one in self.passed_over)
        words = f"nothing of {self._preference.label!r} can be used: {reasons}"
        if all(isinstance(error, UnsupportedError) for error in self._errors):
            return UnsupportedError(words)
        none = ProviderUnavailableError(words)
        none.retryable = any(error.retryable for error in self._errors)
        return none


def _check_local(spec: ProviderString) -> None:
    """``local`` takes what every wall takes, and nothing that one alone understands."""
    if spec.target is not None:
        raise ProviderStringError(
            f"{LOCAL} stands for several walls and takes no target; name the wall, such as "
            f"bubblewrap:{spec.target}."
        )
    fields = attrs.fields_dict(SandboxConfig)
    for name in spec.options:
        if name not in fields:
            raise ProviderStringError(
                f"{LOCAL} has no option {name!r}{nearest(name, fields)}; it takes the fields of "
                "the configuration, and options of one wall are for that wall's own name."
            )
