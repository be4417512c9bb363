"""What every job has in common: arguments, Ray, clear errors, exit codes.

Exit codes: 0 done, 2 something the user can mend (one message on standard error), 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from app.assembly.runtime import ray_runtime
from app.errors import MillraceError
from app.foundation.telemetry.quiet import quiet_libraries
from app.pipeline.session import Session, open_session
from app.settings import load_settings

Verb = Callable[[Session], None]
VerbWithOptions = Callable[[Session, argparse.Namespace], None]


def run_job(
    description: str, verb: Verb | None = None, arguments: list[str] | None = None,
    declare: Callable[[argparse.ArgumentParser], VerbWithOptions] | None = None, begin: bool = True,
) -> None:
    """Parses the arguments, runs `verb` on the project's current run and exits with its code.

    A verb with arguments of its own is given as `declare`, which adds them and returns the verb.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--project", required=True, metavar="MODULE:NAME", help="where the project is, e.g. app.project:PROJECT"
    )
    parser.add_argument(
        "--allow-dirty", action="store_true", help="train from uncommitted code and record its difference"
    )
    with_options = None if declare is None else declare(parser)
    options = parser.parse_args(arguments)
    chosen = verb if with_options is None else partial(_with_options, with_options, options)
    assert chosen is not None
    sys.exit(execute(options.project, chosen, allow_dirty=options.allow_dirty, begin=begin))


def _with_options(verb: VerbWithOptions, options: argparse.Namespace, session: Session) -> None:
    verb(session, options)


def execute(
    project_ref: str, verb: Verb, *, allow_dirty: bool = False, begin: bool = True, open_access: bool = False
) -> int:
    """Runs `verb` and gives the exit code.

    The project and the settings are checked before anything is started. `allow_dirty`: models may be trained from code
    that no commit holds. `begin`: whether a run may be begun where none is unfinished. `open_access`: HTTP asks nobody
    for a token.
    """
    quiet_libraries()
    try:
        settings = load_settings()
        settings = replace(
            settings, allow_dirty=settings.allow_dirty or allow_dirty,
            open_access=settings.open_access or open_access,
        )
        session = open_session(project_ref, settings=settings, begin=begin)
        with ray_runtime(settings):
            verb(session)
    except MillraceError as error:
        print(f"error [{error.code}]: {error.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    return 0
