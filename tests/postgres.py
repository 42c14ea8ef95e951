"""A PostgreSQL of the tests' own: a plugin, so that any test may ask for `postgres_url`."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "''",  # the socket in the temporary folder only: no port to collide on
    "shared_buffers": "32MB",
    "max_connections": "20",
    "autovacuum": "off",
}

MISSING = "the tests need PostgreSQL: install the system's package (Debian, Ubuntu: apt-get install postgresql)"


class PostgresServer:
    """A running server, and a fresh database on it for whoever asks."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._numbers = count(1)

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql:///{database}?host={self._socket}&user=broker"

    def fresh(self) -> str:
        """Create an empty database and return its address."""
        name = f"t{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as db:
            db.execute(f"create database {name}")
        return self.url(name)

    def drop(self, address: str) -> None:
        """Remove a database, and whoever is still connected to it."""
        name = address.removeprefix("postgresql:///").split("?")[0]
        with psycopg.connect(self.url("postgres"), autocommit=True) as db:
            db.execute(f"drop database {name} with (force)")


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs; fails the test when there is none."""
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda path: float(path.split("/")[4]))
    path = found[-1] if found else shutil.which(name)
    if path is None:
        pytest.fail(MISSING, pytrace=False)
    return path


def unprivileged() -> list[str]:
    """Return what to put before a command so that it runs as a user PostgreSQL accepts: it refuses root."""
    return ["setpriv", f"--reuid={_user().pw_uid}", f"--regid={_user().pw_gid}", "--clear-groups"] if os.geteuid() == 0 else []


def _user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.fail("running as root, and neither user postgres nor nobody exists to run PostgreSQL", pytrace=False)


def _run(*command: str) -> None:
    done = subprocess.run([*unprivileged(), *command], capture_output=True, text=True, cwd="/", timeout=120, check=False)
    if done.returncode:
        pytest.fail(f"{Path(command[0]).name} failed:\n{done.stdout}{done.stderr}", pytrace=False)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start a server in a temporary folder, and stop it."""
    initdb, control = program("initdb"), program("pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket's path has a limit of 107 bytes
    try:
        if os.geteuid() == 0:
            os.chown(folder, _user().pw_uid, _user().pw_gid)
        data = folder / "data"
        _run(initdb, "-D", str(data), "-U", "broker", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        _run(control, "-D", str(data), "-l", str(folder / "log"), "-w", "-o", f"{options} -k {folder}", "start")
        try:
            yield PostgresServer(folder)
        finally:
            _run(control, "-D", str(data), "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """Return the address of an empty database that goes away after the test."""
    address = postgres_server.fresh()
    yield address
    postgres_server.drop(address)
