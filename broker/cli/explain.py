"""`broker explain`: what a word, a field or a whole message means."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path

import click

from broker.config import explain as explaining
from broker.config import glossary
from broker.config.load import load
from broker.config.models import RIS, Channel, Config
from broker.config.spelled import Spelled, spell, spell_header
from broker.connectors import registry
from broker.dicom.dataset import read_header
from broker.engine.rehearsal import normal_ends
from broker.errors import ConfigError, MessageError
from broker.hl7 import standard
from broker.hl7.message import Message
from broker.pipeline.tables import Table

_SHOWN = 40  # rows of a table


@click.command()
@click.argument("word", required=False, metavar="[WORD | FILE | -]")
@click.option("--version", "hl7_version", default=standard.DEFAULT, show_default=True, help="The HL7 version that a field is looked up in.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def explain(path: Path, word: str | None, hl7_version: str, as_json: bool) -> None:
    """Explain a WORD, or every value in a FILE with an HL7 message or DICOM object (- for standard input).

    A WORD is a step, a listener or destination, an option (mllp.charset), a layout or a reference; a field (PID-3.4), an attribute
    (PatientID, (0010,0020)), an HL7 table (0119), an error code (103); condition, an event or a state of the RIS (exam states);
    or a name in the configuration: a channel, a table, a listener, a destination. Without a WORD: all words of the configuration.

    Exits 0, or 1 when the word is not known or the file cannot be read.
    """
    if hl7_version not in standard.VERSIONS:
        raise click.BadParameter(f"{hl7_version} is no HL7 version; known: {', '.join(standard.VERSIONS)}", param_hint="--version")
    if word is None:
        names = sorted(explaining.topics(registry))
        click.echo(json.dumps(names, indent=2) if as_json else "\n".join(names))
        return
    config = _config(path)
    if word == "-" or (Path(word).is_file() and not explaining.known(word, registry)):
        _explain_file(word, config.tables if config else {}, as_json)
        return
    texts = [*explaining.texts(word, registry), *glossary.explain(word, hl7_version), *(_named(word, config) if config else ())]
    if not texts:
        raise click.ClickException(_unknown(word, config))
    click.echo(json.dumps({"name": word, "text": "\n\n".join(texts)}) if as_json else "\n\n".join(texts))


def _config(path: Path) -> Config | None:
    """Return the configuration when there is one in order; what is wrong with it is `broker check`'s to say."""
    try:
        return load(path, os.environ, registry)
    except ConfigError:
        return None


def _unknown(word: str, config: Config | None) -> str:
    if wrong := glossary.unknown(word):
        return wrong
    named: list[str] = []
    if config:
        for parts in (config.channels, config.listeners, config.destinations):
            named += [one.name for one in parts]
        named += config.tables
    near = get_close_matches(word, {*explaining.topics(registry), *glossary.words(), *named}, n=3)
    near = [one for one in near if not any(one.startswith(f"{other}.") for other in near)]
    return f"nothing is called {word}; " + (f"did you mean {' or '.join(near)}?" if near else "broker explain lists what is")


# -- names of the configuration


def _named(word: str, config: Config) -> Iterable[str]:
    for channel in config.channels:
        if channel.name == word:
            yield _channel(channel, config)
    for one in config.listeners:
        if one.name == word:
            feeds = ", ".join(channel.name for channel in config.channels if channel.source == word) or "no channel"
            yield f"{word}: an {one.kind} listener ({one.file}:{one.line}); it feeds {feeds}. See broker explain {one.kind}"
    for destination in config.destinations:
        if destination.name == word:
            senders = ", ".join(channel.name for channel in config.channels if word in channel.route.destinations) or "no channel"
            where = f"{destination.file}:{destination.line}"
            yield f"{word}: an {destination.kind} destination ({where}); {senders} may send to it. See broker explain {destination.kind}"
    if word in config.tables:
        yield _table(config.tables[word])


def _channel(channel: Channel, config: Config) -> str:
    route = channel.route
    source = "what happens in the department" if channel.source == RIS else f"the listener {channel.source}"
    lines = [f"{channel.name}: {route.description}", "", f"  a channel ({channel.file}:{channel.line}), fed by {source}"]
    lines.append(f"  sends to {', '.join(sorted(route.destinations)) or 'nobody'}")
    lines.append(f"  looks at {', '.join(sorted(route.paths))}")
    if channel.cases:
        lines.append(f"  its cases: {os.path.relpath(channel.cases)}; broker test {channel.name}")
    return "\n".join(lines)


def _table(table: Table) -> str:
    rows = [
        f"  {key}: " + ", ".join(f"{column} {text or 'empty'}" for column, text in list(row.items())[1:]) for key, row in table.rows.items()
    ]
    more = [f"  and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
    return "\n".join([f"{table.name}: a code table of {len(rows)} rows, looked up by {table.columns[0]}", "", *rows[:_SHOWN], *more])


# -- messages


def _explain_file(name: str, tables: Mapping[str, Table], as_json: bool) -> None:
    try:
        spelled = list(_spelled(name, tables))
    except OSError as error:
        raise click.ClickException(f"{name}: {error.strerror}") from error
    except MessageError as error:
        raise click.ClickException(f"{name}: neither an HL7 message nor a DICOM object: {error}") from error
    if as_json:
        click.echo(json.dumps([asdict(one) for one in spelled], indent=2))
        return
    width = min(max((len(one.path) for one in spelled), default=0), 32)
    for one in spelled:
        if not one.datatype and not one.value:
            click.secho(f"{one.path}  {one.name}".rstrip(), bold=True)
            continue
        kind = f" ({one.datatype}{', table ' + one.table if one.table else ''})" if one.datatype else ""
        meaning = click.style(f"  {one.meaning}", fg="red" if one.meaning.startswith("not in ") else "cyan") if one.meaning else ""
        value = click.style(one.value, fg="green")
        click.echo(f"  {one.path:<{width}}  {one.name}{click.style(kind, dim=True)}: {value}{meaning}")


def _spelled(name: str, tables: Mapping[str, Table]) -> Iterable[Spelled]:
    raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    if raw[128:132] == b"DICM" and name != "-":
        return spell_header(read_header(name)[0])
    return spell(Message.parse(normal_ends(raw)), tables)
