"""``lex-ingest``: registers the commands, and turns every error into one line and an exit code.

Exit codes: 0 done, or the answer is yes; 1 it failed, or the answer is no; 2 wrong usage or setting; 3 nothing runs there,
or it can't be reached; 70 a bug in lex-ingest; 130 interrupted; 141 the reader of the output, such as ``head``, closed the pipe.
"""

from __future__ import annotations

import contextlib
import errno
import inspect
import logging
import os
import select
import signal
import sys
import traceback
import warnings
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from infra.cli import cost, demo, documents, models, objects, operate, reconcile, search, stack
from infra.cli.examples import EXAMPLES
from infra.cli.failures import DONE, FAILED, INTERRUPTED, PIPE_CLOSED, failure_of, with_full_stop
from infra.cli.output import visible_key, visible_line

app = typer.Typer(
    name="lex-ingest",
    help="Drop a document into an S3 bucket; seconds later its text is searchable by meaning in PostgreSQL.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
# Whether tracebacks and logs are shown. A global, since it is needed after typer's context of the option is gone.
_debug = False
# Copies of standard output and standard error. rich, which prints the help, puts /dev/null in the place of a closed pipe.
_outputs: list[int] = []


class _Command(TyperCommand):
    """A command that refuses text arguments that are not valid Unicode, as PostgreSQL and S3 do. Paths may be any bytes."""

    def invoke(self, ctx: Any) -> Any:
        for parameter in self.get_params(ctx):
            value = ctx.params.get(parameter.name)
            for text in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(text, str) and not _is_unicode(text):
                    raise typer.BadParameter(f"{visible_key(text)} is not valid UTF-8.", ctx=ctx, param_hint=parameter.opts[0])
        return super().invoke(ctx)


def _is_unicode(text: str) -> bool:
    # Python turns argument bytes that are not valid UTF-8 into lone surrogates (PEP 383).
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"lex-ingest {version('lex-ingest')}")
        raise typer.Exit


@app.callback(epilog="Example: lex-ingest up --detach, then lex-ingest put ~/Documents --wait")
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="LEX_INGEST_DEBUG", help="Show the traceback of an error, and the logs.")
    ] = False,
) -> None:
    """Drop a document into an S3 bucket; seconds later its text is searchable by meaning in PostgreSQL."""
    global _debug
    _debug = debug
    logging.disable(logging.NOTSET if debug else logging.CRITICAL)


def _register() -> None:
    for module in (stack, objects, documents, search, cost, models, operate, reconcile, demo):
        module.register(app)
    for prefix, group in (("", app), ("model ", models.model)):
        for command in group.registered_commands:
            name = command.name or getattr(command.callback, "__name__", "").replace("_", "-")
            command.cls, command.epilog = _Command, f"Example: {EXAMPLES[prefix + name]}"
            # Typer keeps the line ends of all paragraphs but the first, which are right for no terminal but the author's.
            paragraphs = inspect.cleandoc(command.help or getattr(command.callback, "__doc__", None) or "").split("\n\n")
            command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


_register()


def main() -> NoReturn:
    """Run the program, and end the process with its exit code."""
    _outputs[:] = os.dup(1), os.dup(2)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # From here on Ctrl-C raises KeyboardInterrupt, so that commands can clean up.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Commands print their own messages, so log lines would only disturb a person. ``--debug`` shows them.
    logging.disable(logging.CRITICAL)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    try:
        code = app(standalone_mode=False, prog_name="lex-ingest") or DONE
    except BaseException as error:  # noqa: BLE001 - every error ends in one line and an exit code
        code = _end_of(error)
    _leave(code)


def _end_of(error: BaseException) -> int:
    """Print the error's message, if it has one. Returns the exit code."""
    if isinstance(error, SystemExit) and isinstance(error.__context__, OSError) and error.__context__.errno == errno.EPIPE:
        # Typer exits so for every EPIPE: of a closed output, but also of a lost network connection.
        error = error.__context__
    if isinstance(error, BrokenPipeError) and any(map(_is_closed_pipe, _outputs)):
        return PIPE_CLOSED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED if error.code else DONE
    at_a_question = isinstance(error, typer.Abort) and isinstance(error.__context__, KeyboardInterrupt)
    if isinstance(error, KeyboardInterrupt) or at_a_question:
        return INTERRUPTED
    if _debug and not isinstance(error, (typer.Abort, typer.TyperException)):
        traceback.print_exception(error)
    if isinstance(error, typer.Abort):
        if isinstance(error.__context__, EOFError):
            return _tell(
                "There was no answer to the question, so nothing was done. --yes answers it (of `up`: --provider).", FAILED
            )
        return _tell("The answer was no, so nothing was done.", FAILED)
    if isinstance(error, typer.TyperException):
        return _tell_of_usage(error)
    failure = failure_of(error)
    return _tell(failure.sentence, failure.code)


def _tell_of_usage(error: typer.TyperException) -> int:
    message = " ".join(error.format_message().split())
    if not message:
        # typer printed the help instead, since there were no arguments.
        return error.exit_code
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "lex-ingest"
    message = with_full_stop(visible_line(message))
    option = getattr(error, "option_name", "--")
    if not option.startswith("--"):
        message += f" Put a key that begins with - after --, as in `{path} -- -KEY`."
    return _tell(f"{message} See `{path} --help`.", error.exit_code)


def _tell(sentence: str, code: int) -> int:
    with contextlib.suppress(OSError):  # if standard error is closed, the exit code still tells
        print(f"lex-ingest: {sentence}", file=sys.stderr, flush=True)
    return code


def _is_closed_pipe(descriptor: int) -> bool:
    """Whether the descriptor is a pipe whose reader has closed it."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _leave(code: int) -> NoReturn:
    """Write out what is still buffered, and end the process. A failure to write changes exit code 0 to another one."""
    try:
        sys.stdout.flush()
    except OSError as error:
        if code == DONE and not isinstance(error, BrokenPipeError):
            code = _tell(f"The output could not be written: {error.strerror}.", FAILED)
        elif code == DONE:
            code = PIPE_CLOSED
        # Discard the rest of the buffer, or else Python tries to write it again at exit and fails.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if code in (INTERRUPTED, PIPE_CLOSED):
        # ``sys.exit`` would wait for threads that still run, such as uploads, and a second Ctrl-C would show a traceback.
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
