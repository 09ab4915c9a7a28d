"""Runs many command lines of one program for the price of one import: a forked child for each.

Usage: command_lines.py MODULE [KEYWORDS_AS_JSON] < lists of arguments, a JSON list per line.
Prints `[exit code, standard output, standard error]` as JSON, a line for each.
"""

import importlib
import json
import os
import sys
import tempfile


def run(module, arguments):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            sys.argv = [module.__file__, *arguments]
            code = 1
            try:
                module.run()
            except SystemExit as end:
                code = end.code or 0
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        return os.waitstatus_to_exitcode(status), out.read(), err.read()


if __name__ == "__main__":
    module = importlib.import_module(sys.argv[1])
    if launcher := sys.modules.get("experiments.launcher"):
        launcher._PATIENCE_SECONDS = 600  # Busy machines take long to compile.
    for line in sys.stdin:
        print(json.dumps(run(module, json.loads(line))), flush=True)
