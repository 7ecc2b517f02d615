"""What code in a named interpreter shows beside its streams: values, pictures, errors.

It travels on a socket of the job's own, which programs do not inherit and cannot open by a
name. A record is the length of its content (4 bytes), its kind (1 byte) and its content. Of
``V`` (the value of the last expression) and ``D`` (what was displayed) that is, for each form
that the thing has, the lengths of the type's name (2 bytes) and of the data (4), and both; of
``E`` (an error) three texts, each with its length (4): name, message, traceback. Numbers have
their low byte first.

How a thing is shown is what notebooks agree on: ``_repr_html_`` and its siblings,
``_repr_mimebundle_``, ``_ipython_display_``. Nothing needs to be installed for it.
"""

import _signal  # type: ignore[import-not-found]
import builtins
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

    Bundle = dict[str, "str | bytes"]

VALUE, DISPLAY, ERROR = b"V", b"D", b"E"
#: Of an error's texts, so many characters.
MOST_TEXT_SHOWN = 64 << 10
#: Forms that an object may have, and the method that gives each.
METHODS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("text/latex", "_repr_latex_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("application/pdf", "_repr_pdf_"),
    ("application/json", "_repr_json_"),
    ("application/javascript", "_repr_javascript_"),
)
#: Objects that have every attribute that they are asked for have this one, too.
CANARY = "_ipython_canary_method_should_not_exist_"
#: Of these a text is base64.
ENCODED = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")


class Showing:
    """Where the records of the job that runs go; nowhere between jobs and in children."""

    channel: "_socket.socket | None" = None
    pid = 0  #: a forked child has it open, too, before Python 3.7

    def send(self, kind: bytes, content: bytes) -> None:
        """Send one record whole: an interrupt waits for its end."""
        channel = self.channel
        if channel is None or os.getpid() != self.pid:
            return
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, range(1, 32))
        try:
            channel.sendall(len(content).to_bytes(4, "little") + kind + content)
        except OSError:  # the program has closed it
            self.channel = None
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


showing = Showing()


def send_bundle(kind: bytes, bundle: "Bundle") -> None:
    parts = []
    for mime, data in bundle.items():
        name = mime.encode("utf-8", "replace")[:255]
        raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
        parts += [len(name).to_bytes(2, "little"), len(raw).to_bytes(4, "little"), name, raw]
    if parts:
        showing.send(kind, b"".join(parts))


def send_error(name: str, message: str, trace: str) -> None:
    parts = []
    for text in (name, message, trace):
        raw = shortened(text).encode("utf-8", "replace")
        parts += [len(raw).to_bytes(4, "little"), raw]
    showing.send(ERROR, b"".join(parts))


def shortened(text: str) -> str:
    if len(text) <= MOST_TEXT_SHOWN:
        return text
    return text[: MOST_TEXT_SHOWN // 2] + "\n...\n" + text[-MOST_TEXT_SHOWN // 2 :]


# -- the forms of a thing -------------------------------------------------------


def bundle_of(value: object) -> "Bundle | None":
    """Each form that it has, by its type; None if it shows itself."""
    bundle: Bundle = {}
    if not isinstance(value, type) and method_of(value, CANARY) is None:
        itself = method_of(value, "_ipython_display_")
        if itself is not None:
            itself()
            return None
        made = attempted(method_of(value, "_repr_mimebundle_"), include=None, exclude=None)
        found = made[0] if isinstance(made, tuple) and made else made
        if isinstance(found, dict):
            bundle.update(forms_of(found))
        for mime, name in METHODS:
            if mime not in bundle:
                made = attempted(method_of(value, name))
                bundle.update(forms_of({mime: made[0] if isinstance(made, tuple) else made}))
        if is_figure(value) and "image/png" not in bundle:
            bundle.update(forms_of({"image/png": attempted(picture_of, value)}))
    if "text/plain" not in bundle:
        bundle["text/plain"] = text_form(value)
    return bundle


def text_form(value: object) -> str:
    pretty = sys.modules.get("IPython.lib.pretty")
    made = attempted(pretty.pretty, value) if pretty is not None else None
    return made if isinstance(made, str) else repr(value)


def method_of(value: object, name: str) -> "Any":
    try:
        return getattr(value, name, None)
    except Exception:
        return None


def attempted(method: "Any", *args: object, **options: object) -> "Any":
    """What it gives; None if it is none, and where it raises, which is shown."""
    if method is None:
        return None
    try:
        return method(*args, **options)
    except NotImplementedError:
        return None
    except Exception:
        import traceback

        traceback.print_exc()
        return None


def forms_of(found: "dict[str, Any]") -> "Bundle":
    """Those that can be sent."""
    forms: Bundle = {}
    for mime, data in found.items():
        made = None if data is None or not isinstance(mime, str) else form_of(mime, data)
        if made is not None:
            forms[mime] = made
    return forms


def form_of(mime: str, data: "Any") -> "str | bytes | None":
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    as_json = mime == "application/json" or mime.endswith("+json")
    if isinstance(data, str):
        if mime not in ENCODED:
            return as_json_text(data) if as_json else data
        import binascii

        try:
            made: bytes = binascii.a2b_base64(data)
            return made
        except ValueError:
            return None
    if as_json:
        text: str | None = attempted(json_text, data)
        return text
    return str(data) if mime.startswith("text/") else None


def json_text(data: object) -> "str | None":
    """None if this Python has no JSON."""
    try:
        import json
    except ImportError:
        return None
    return json.dumps(data)


def as_json_text(text: str) -> "str | None":
    """A text of JSON as it is, any other as a text in JSON."""
    try:
        import json
    except ImportError:
        return None
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(text)
    return text


# -- showing --------------------------------------------------------------------


def show_value(value: object) -> None:
    """``sys.displayhook`` of a named interpreter."""
    if value is None:
        return
    builtins._ = None  # type: ignore[attr-defined]
    bundle = bundle_of(value)
    if bundle:
        send_bundle(VALUE, bundle)
    builtins._ = value  # type: ignore[attr-defined]


def display(*values: object, **options: object) -> None:
    """Show values; with ``raw=True`` they are dictionaries from type to data already."""
    for value in values:
        if options.get("raw") and isinstance(value, dict):
            bundle: Bundle | None = forms_of(value)
        else:
            bundle = bundle_of(value)
        if bundle:
            send_bundle(DISPLAY, bundle)


def publish(data: "dict[str, Any]", *_: object, **__: object) -> None:
    """In place of IPython's ``publish_display_data``."""
    display(data, raw=True)


def is_figure(value: object) -> bool:
    kind = type(value)
    return any(
        (one.__module__, one.__name__) == ("matplotlib.figure", "Figure")
        for one in getattr(kind, "__mro__", ())
    )


def picture_of(figure: "Any") -> bytes:
    import io

    into = io.BytesIO()
    figure.savefig(into, format="png", bbox_inches="tight")
    return into.getvalue()


def show_figures(*_: object, **__: object) -> None:
    """Show the figures that are open, and close them: ``plt.show``, and the end of a text."""
    pyplot: Any = sys.modules.get("matplotlib.pyplot")
    numbers: list[int] = getattr(pyplot, "get_fignums", list)()
    for number in numbers:
        display(pyplot.figure(number))
    if numbers:
        pyplot.close("all")


# -- libraries that show things -------------------------------------------------


def into_ipython(module: "Any") -> None:
    for name, ours in (("display", display), ("publish_display_data", publish)):
        if hasattr(module, name):
            setattr(module, name, ours)


def into_pyplot(module: "Any") -> None:
    module.show = show_figures


class Hooks:
    """A finder of modules that finds none itself: it has something done when they are there."""

    def __init__(self) -> None:
        self.waiting: dict[str, Callable[[Any], None]] = {
            "IPython.core.display": into_ipython,
            "IPython.core.display_functions": into_ipython,
            "matplotlib.pyplot": into_pyplot,
        }

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        then = self.waiting.get(name)
        if then is None:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                del self.waiting[name]
                spec.loader = Then(spec.loader, then)  # type: ignore[assignment]
                return spec
        return None


class Then:
    """A module's loader, and what follows it."""

    def __init__(self, loader: "Any", then: "Callable[[Any], None]") -> None:
        self.loader = loader
        self.then = then

    def __getattr__(self, name: str) -> "Any":
        return getattr(self.loader, name)

    def create_module(self, spec: "Any") -> "Any":
        return self.loader.create_module(spec)

    def exec_module(self, module: "Any") -> None:
        module.__loader__ = module.__spec__.loader = self.loader
        self.loader.exec_module(module)
        attempted(self.then, module)
