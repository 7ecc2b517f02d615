"""Makes the site's reference from the code: the public API here, the other pages in ``made``.

MkDocs loads this file as a hook (``hooks`` in mkdocs.yml) and calls the functions named ``on_…``.
The pages exist while the site is built, and in no folder of the repository. Pages that stand
outside of docs/ are brought in as well, so that links to them lead somewhere.
"""

from __future__ import annotations

import importlib
import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from made import clauses, command_line, configuration, errors, events

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
#: For callers, for authors of plug-ins, for walls: as docs/architecture.md lists them.
PUBLIC = {
    "For callers": (
        "stockade",
        "stockade.aio",
        "stockade.session",
        "stockade.files",
        "stockade.config",
        "stockade.results",
        "stockade.errors",
        "stockade.events",
        "stockade.capabilities",
        "stockade.cli",
    ),
    "For authors of plug-ins": (
        "stockade.plugin",
        "stockade.wall",
        "stockade.file_backend",
        "stockade.trait",
        "stockade.lowering",
        "stockade.testing",
        "stockade.system",
        "stockade.values",
    ),
    "For walls": ("stockade.toolkit",),
}
#: The pages beside the API's, by the name in reference/.
PAGES = {
    "clauses": clauses.page,
    "command-line": command_line.page,
    "configuration": configuration.page,
    "errors": errors.page,
    "events": events.page,
}
#: Pages outside of docs/ that are part of the site.
BROUGHT = (
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "supervisor/PROTOCOL.md",
    "deploy/server/README.md",
    "plugins/chaos/README.md",
    "plugins/replay/README.md",
)
#: Text, target, and the place in it, of a link within the repository.
_LINK = re.compile(r"\[([^]]+)\]\(([^)#:\s]+)(#[^)\s]*)?\)")

#: Of docstrings: what stands before a name that another program would make a link of.
_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):(?=<code>)")


# -- the API ---------------------------------------------------------------------------------


def exports(module: str) -> Iterator[tuple[str, str]]:
    """The names that a public module exports: each with the dotted name of where it stands."""
    for name in importlib.import_module(module).__all__:
        if not name.startswith("_"):
            yield name, f"{module}.{name}"


def modules() -> list[str]:
    """The public modules, those included that a public module's ``__all__`` names."""
    found = [name for names in PUBLIC.values() for name in names]
    for module in found:  # grows while it is walked
        for _, dotted in exports(module):
            if is_module(dotted) and dotted not in found:
                found.append(dotted)
    return found


def is_module(dotted: str) -> bool:
    """Whether a public name is a module and no object in one."""
    module, _, name = dotted.rpartition(".")
    value = getattr(importlib.import_module(module), name, None)
    return value is None or isinstance(value, ModuleType)


def api_pages() -> dict[str, str]:
    """A page for each public module, by its path, and a list of all of them."""
    pages = {f"reference/api/{name}.md": api_page(name) for name in modules()}
    return {"reference/api/index.md": api_index(), **pages}


def api_page(module: str) -> str:
    """What a public module says of itself and of each name that it exports."""
    said = inspect.getdoc(importlib.import_module(module)) or ""
    inner = [dotted for _, dotted in exports(module) if is_module(dotted)]
    names = [dotted for _, dotted in exports(module) if dotted not in inner]
    lines = [f"# {module}", "", summary(said), ""]
    lines += [f"- [{dotted}]({dotted}.md)" for dotted in inner]
    for dotted in names:
        lines += ["", f"## {dotted.rpartition('.')[2]}", "", f"::: {dotted}"]
    return "\n".join(lines) + "\n"


def summary(said: str) -> str:
    """The first paragraph of a docstring."""
    return said.partition("\n\n")[0].replace("``", "`")


def api_index() -> str:
    """All public modules, by whom they are for."""
    lines = ["# The Python API", ""]
    lines += ["A name is public if it is on one of these pages.", ""]
    for kind, names in PUBLIC.items():
        lines += [f"## {kind}", ""]
        for name in names:
            said = summary(inspect.getdoc(importlib.import_module(name)) or "")
            lines.append(f"- [{name}]({name}.md): {' '.join(said.split())}")
        lines.append("")
    return "\n".join(lines)


# -- what MkDocs calls -------------------------------------------------------------------------


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages that are made and those that are brought; called before the navigation."""
    from mkdocs.structure.files import File

    made = {**api_pages(), **{f"reference/{name}.md": page() for name, page in PAGES.items()}}
    made |= {f"project/{name}": (ROOT / name).read_text() for name in BROUGHT if exists(name)}
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def exists(name: str) -> bool:
    """Whether a page of the repository is there."""
    return (ROOT / name).is_file()


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Leads links to where their page stands in the site; called for each page.

    Of a link to something else of the repository's (a folder, a program) the text stays.
    """
    here = page.file.src_uri
    if here.startswith("reference/"):
        return markdown
    source = here.removeprefix("project/") if here.startswith("project/") else f"docs/{here}"

    def lead(match: re.Match[str]) -> str:
        text, target, place = match.groups(default="")
        place_in_site = placed(
            posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        )
        if not place_in_site:
            return text
        way = posixpath.relpath(place_in_site, posixpath.dirname(here) or ".")
        return f"[{text}]({way}{place})"

    return _LINK.sub(lead, markdown)


def on_page_content(html: str, *, page: Page, **_: Any) -> str:
    """Takes the roles off names in docstrings, which mean nothing here; called for each page."""
    return _ROLE.sub("", html) if page.file.src_uri.startswith("reference/") else html


def placed(path: str) -> str:
    """Where a file of the repository is in the site; empty where it is not."""
    if path in BROUGHT:
        return f"project/{path}"
    inside = path.startswith("docs/") and (ROOT / path).is_file()
    return path.removeprefix("docs/") if inside else ""
