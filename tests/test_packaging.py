"""The package's description, its locks and the Makefile: complete, pinned, and telling a person what is missing."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import Environment, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import broker.cli

TOP = Path(__file__).parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
RUN_LOCK = TOP / "requirements.lock"
DEV_LOCK = TOP / "requirements-dev.lock"
TARGETS = {"help", "setup", "run", "test", "check", "bench", "demo", "fuzz", "crash", "soak", "docs", "lock", "clean"}


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock.read_text(), re.MULTILINE))


def platforms() -> list[Environment]:
    """Return the marker environments of every Python and machine that the locks promise to fit."""
    return [
        Environment(
            **{
                **default_environment(),
                "python_version": python,
                "python_full_version": f"{python}.2",
                "implementation_version": f"{python}.2",
                "platform_machine": machine,
                "sys_platform": "linux",
                "platform_system": "Linux",
            }
        )
        for python in ("3.11", "3.12", "3.13")
        for machine in ("x86_64", "aarch64")
    ]


def closure(requirements: list[Requirement], environment: Environment) -> set[str]:
    """Return the names of all distributions that the requirements need in an environment, read from what is installed here."""
    needed: set[tuple[str, str]] = set()
    open_ones = [(requirement, "") for requirement in requirements]
    while open_ones:
        requirement, extra = open_ones.pop()
        if requirement.marker and not requirement.marker.evaluate({**environment, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in needed:
                needed.add((name, wanted))
                open_ones += [(Requirement(line), wanted) for line in metadata.requires(name) or ()]
    return {name for name, _ in needed}


@pytest.mark.parametrize("lock", [RUN_LOCK, DEV_LOCK], ids=lambda lock: lock.name)
def test_a_lock_pins_and_hashes_everything_and_names_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert not re.search(r"://|^\s*-(?!-hash=sha256:)|@", text, re.MULTILINE)
    entries = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    assert len(entries) == len(pins(lock))
    for entry in entries:
        assert re.fullmatch(r"[a-z0-9-]+==\S+(\s+--hash=sha256:[0-9a-f]{64})+\s*", entry), entry.split()[0]


@pytest.mark.parametrize(("lock", "extras"), [(RUN_LOCK, ["pg", "pixels"]), (DEV_LOCK, ["pg", "pixels", "dev"])], ids=["run", "dev"])
def test_a_lock_holds_all_that_is_needed_on_every_platform(lock: Path, extras: list[str]) -> None:
    lines = PROJECT["dependencies"] + [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    for environment in platforms():
        assert closure([Requirement(line) for line in lines], environment) <= set(pins(lock))


def test_the_locks_agree_and_fit_the_project() -> None:
    run, dev = pins(RUN_LOCK), pins(DEV_LOCK)
    assert run.items() <= dev.items()
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in (Requirement(line) for group in groups for line in group):
        assert requirement.specifier.contains(dev[canonicalize_name(requirement.name)])
    assert "setuptools" in run, "the project is built without isolation, with the setuptools of the lock"


def test_what_the_broker_imports_is_declared_and_what_is_declared_is_imported() -> None:
    trees = [ast.parse(path.read_text()) for path in (TOP / "broker").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    foreign = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"broker"}
    providers = metadata.packages_distributions()
    imported = {canonicalize_name(name) for module in foreign for name in providers[module]}
    optional = PROJECT["optional-dependencies"]
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"] + optional["pg"] + optional["pixels"]}
    plugins = {"pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "pyjpegls"}  # pydicom finds these by itself
    # zope.interface is Twisted's way to say what implements what, and comes with it; the others come with its extra `tls`.
    assert imported - {"zope-interface", "pyopenssl", "cryptography", "service-identity"} == declared - plugins


def test_every_dependency_has_its_reason_and_licence_written_down() -> None:
    page = (TOP / "docs/decisions/0001-dependencies.md").read_text().lower()
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for requirement in (Requirement(line) for group in groups for line in group):
        assert re.search(rf"^\|.*\b{re.escape(requirement.name.lower())}\b.*\|", page, re.MULTILINE), requirement.name


def test_the_console_script_is_the_command_line() -> None:
    assert PROJECT["scripts"] == {"broker": "broker.__main__:main"}
    program = "import sys, broker.__main__ as command; print(command.main.name, sys.modules.get('numpy'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "main None\n"  # numpy is for the pixel workers


def test_every_file_beside_the_code_goes_into_the_package() -> None:
    data = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    packed = {
        path for package, patterns in data.items() for pattern in patterns for path in TOP.joinpath(*package.split(".")).glob(pattern)
    }
    files = {path for path in (TOP / "broker").rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert files <= packed


def test_every_package_has_its_init_file() -> None:
    folders = {path.parent for path in (TOP / "broker").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def make(*arguments: str) -> str:
    return subprocess.run(["make", "--no-print-directory", *arguments], cwd=TOP, check=True, capture_output=True, text=True).stdout


def test_make_alone_lists_every_target() -> None:
    assert set(re.findall(r"^  make (\w+)", make(), re.MULTILINE)) == TARGETS


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_what_a_target_calls_exists(target: str) -> None:
    recipe = make("--dry-run", target)
    assert recipe
    for program in re.findall(r"(?<![\w/])((?:scripts|bench)/\w+(?:\.py)?)(?=\s|$)", recipe):
        assert (TOP / program).is_file(), program
    for command in re.findall(r"\.venv/bin/broker (\w+)", recipe):
        assert command in broker.cli.main.commands
    for folder in re.findall(r"pytest.* (tests/\w+)", recipe):
        assert list((TOP / folder).glob("test_*.py")), folder


def test_what_is_run_by_its_name_may_be_run() -> None:
    for script in [TOP / ".ci/run", *(path for path in (TOP / "scripts").iterdir() if path.is_file() and path.suffix == "")]:
        assert os.access(script, os.X_OK), script


def test_ci_checks_and_then_tests() -> None:
    lines = (TOP / ".ci/run").read_text().splitlines()
    assert "set -euo pipefail" in lines
    assert "export CI=true" in lines
    assert lines[-2:] == ["make --no-print-directory check", "make --no-print-directory test"]


def script(name: str, *arguments: str, path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", TOP / "scripts" / name, *arguments],
        env={"PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def tools(folder: Path, *names: str) -> str:
    """Return a PATH with only these of the machine's programs on it."""
    for name in names:
        (folder / name).symlink_to(next(found for place in ("/usr/bin", "/bin") if (found := Path(place, name)).exists()))
    return str(folder)


def test_missing_peers_are_named_with_what_to_install_and_fail_only_in_ci(tmp_path: Path) -> None:
    path = tools(tmp_path, "id", "dirname")
    for ci, code in (("", 0), ("true", 1)):
        done = script("peers", path=path, CI=ci)
        assert done.returncode == code
        assert re.search(r"apt-get install --no-install-recommends dcmtk (orthanc )?dicom3tools (postgresql )?prometheus\n", done.stderr)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (None, "apt-get install python3 python3-venv"),
        ('[ "$1" = -V ] && echo Python 3.9.2; exit 1', "Python 3.11 or newer is needed"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "apt-get install python3-venv"),
    ],
)
def test_setup_says_what_is_missing_before_it_touches_anything(tmp_path: Path, body: str | None, says: str) -> None:
    python = tmp_path / "python"
    if body is not None:
        python.write_text(f"#!/bin/bash\n{body}\n")
        python.chmod(0o755)
    done = script("setup", str(python), path=tools(tmp_path, "dirname"))
    assert done.returncode == 1
    assert says in done.stderr
