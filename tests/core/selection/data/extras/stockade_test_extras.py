"""Test data: hooks that are neither policies nor observers."""

import click

from stockade.plugin import Check, Language, hookimpl

STOCKADE_API_VERSION = 1


@click.command()
def hello():
    click.echo("hello from a plug-in")


def noted(context, parameter, value):
    if value:
        click.echo("noted")


@hookimpl
def stockade_add_commands(group):
    group.add_command(hello)
    option = click.Option(["--note"], is_flag=True, expose_value=False, callback=noted)
    group.commands["run"].params.append(option)


@hookimpl
def stockade_doctor_checks():
    return [Check("a server of its own", False, "it is away", "start it")]


@hookimpl
def stockade_report_sections(report):
    return {"extras": {"of": report["wall"]["name"]}}


@hookimpl
def stockade_languages():
    return [Language(name="rot", programs=("rot",))]
