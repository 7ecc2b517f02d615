"""``stockade serve``, and ``stockade serve key add``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stockade.plugin import hookimpl
from stockade.system.installing import install

if TYPE_CHECKING:
    import click

    from stockade_server.settings import Settings, Template

STOCKADE_API_VERSION = 1

#: The names under which `local` is served where nothing else is named: what the two SDKs ask
#: for by themselves.
_ALONE = ("base", "code-interpreter-v1")

_EXAMPLES = (
    "stockade serve",
    "stockade serve --template base=local --port 8080",
    "stockade serve --config stockade.toml",
)
_KEY_EXAMPLES = (
    "stockade serve key add alice",
    "stockade serve key add bob --config serve.toml",
)


@hookimpl
def stockade_add_commands(group: click.Group) -> None:
    group.add_command(_serve_command())


def _serve_command() -> click.Group:
    import click

    from stockade.cli.examples import ending

    @click.group(invoke_without_command=True, epilog=ending(*_EXAMPLES))
    @click.option("--config", type=click.Path(dir_okay=False), help="A file with a table [serve].")
    @click.option(
        "--template",
        "named",
        multiple=True,
        metavar="NAME=STRING",
        help="Serve this provider string as NAME.",
    )
    @click.option("--host", help="Where to listen; default 127.0.0.1.")
    @click.option("--port", type=int, metavar="PORT", help="Default 3000; 0: any.")
    @click.option("--insecure", is_flag=True, help="Ask nobody for a key; loopback alone.")
    @click.pass_context
    def serve(context: click.Context, /, **options: Any) -> None:
        """Serve E2B's protocol in front of walls.

        Alone it serves `local` as the template `base` on loopback, with one key that it prints.
        """
        if context.invoked_subcommand is None:
            _reported(lambda: _serve(**options))

    @serve.group()
    def key() -> None:
        """Manage the API keys of a file."""

    @key.command(epilog=ending(*_KEY_EXAMPLES))
    @click.argument("name")
    @click.option(
        "--config",
        type=click.Path(dir_okay=False),
        default="stockade.toml",
        show_default=True,
        help="The file; made where there is none.",
    )
    def add(name: str, config: str) -> None:
        """Make a key, print it once, and keep its digest in the file."""
        _reported(lambda: _add_key(name, config))

    return serve


def _reported(call: Any) -> None:
    import click

    from stockade.errors import StockadeError

    try:
        call()
    except StockadeError as error:
        raise click.ClickException(str(error)) from error


def _add_key(name: str, config: str) -> None:
    import click

    from stockade_server.keys import digest_of, new_key
    from stockade_server.settings import append_key

    made = new_key()
    append_key(config, name, digest_of(made))
    click.echo(made)
    click.echo(f"stockade: {config} keeps its digest; the key itself is shown this once", err=True)


def _serve(
    config: str | None,
    named: tuple[str, ...],
    host: str | None,
    port: int | None,
    insecure: bool,
) -> None:
    import attrs
    import click

    from stockade_server.settings import is_loopback

    try:
        from stockade_server.serving import check, listen, serve
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is missing; run: {install('stockade-server')}"
        ) from error
    settings, printed = _settings(config, named, host, port, insecure)
    walls = check(settings)
    listening = listen(settings)
    place = listening.getsockname()[1]
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    scheme = "http" if settings.tls_certificate is None else "https"
    if settings.domain is None and is_loopback(settings.host):
        settings = attrs.evolve(settings, domain=f"localhost:{place}")

    def ready() -> None:
        for name, wall in walls.items():
            click.echo(f"stockade: the template {name} is {wall}", err=True)
        click.echo(f"E2B_API_URL={scheme}://{shown}:{place}")
        click.echo(f"E2B_SANDBOX_URL={scheme}://{shown}:{place}")
        if printed is not None:
            click.echo(f"E2B_API_KEY={printed}")

    serve(settings, listening, ready)


def _settings(
    config: str | None,
    named: tuple[str, ...],
    host: str | None,
    port: int | None,
    insecure: bool,
) -> tuple[Settings, str | None]:
    """What to serve; and the key, where one was made for this start alone."""
    from stockade_server.keys import Key, digest_of, new_key
    from stockade_server.settings import Settings, Template, read_settings

    fields: dict[str, Any] = {} if config is None else read_settings(config)
    templates: dict[str, Template] = dict(fields.get("templates", {}))
    for one in named:
        template = _template(one)
        templates[template.name] = template
    if not templates:
        templates = {name: Template(name=name, provider="local") for name in _ALONE}
    fields["templates"] = templates
    printed = None
    if insecure:
        fields.update(insecure=True, keys={})
        printed = "any"  # the SDKs want one to be set
    elif config is None:
        printed = new_key()
        fields["keys"] = {"alone": Key(digest_of(printed))}
    given = {"host": host, "port": port}
    fields.update({name: value for name, value in given.items() if value is not None})
    return Settings(**fields), printed


def _template(text: str) -> Template:
    from stockade.errors import ConfigError
    from stockade_server.settings import Template

    name, equals, provider = text.partition("=")
    if not equals or not provider:
        raise ConfigError(f"--template {text!r:.80} is not NAME=STRING, such as base=local.")
    return Template(name=name, provider=provider)
