"""Loads bAbI from archives that were tampered with, and checks that each is read, or refused in one line.

    python -m benchmarks.archives [--num_archives=10000] [--mutations_seed=0]

A small archive is changed at random in one of many ways, before or after compression, and loaded as a training would.
Nothing may come of it but data, or an error that is one line; nothing may be written but the cache; and time and memory
are bounded. Prints how many archives of each kind were read and refused, the slowest, and the peak of memory, and exits
with 1 if one did anything else.
"""

import gzip
import io
import pathlib
import random
import resource
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from absl import app, flags

from mnm_jax.tasks import babi

_NUM = flags.DEFINE_integer("num_archives", 10_000, "How many archives to load.", lower_bound=1)
_MUTATION_SEED = flags.DEFINE_integer("mutations_seed", 0, "Seed of what is done to them.")

_CONFIG, _TASKS = "en", (1, 2)
_MOST_SECONDS = 20.0
_MOST_MEBIBYTES = 1024  # More than before.
_BOMB = 2**27


class Failure(NamedTuple):
    """An archive that did what it must not: its number, what was done to it, and what came of it."""

    number: int
    kind: str
    what: str


class Outcome(NamedTuple):
    """What came of all archives.

    Attributes:
      read: how many of each kind were read.
      refused: how many of each kind were refused in one line.
      failures: all others.
      most_seconds: of the slowest.
      added_mebibytes: how much the peak of memory grew.
    """

    read: Counter[str]
    refused: Counter[str]
    failures: list[Failure]
    most_seconds: float
    added_mebibytes: float


Contents = dict[str, bytes]


def make_contents() -> Contents:
    """The files of a small archive, by name: four training stories and two test stories of each task."""

    def story(task: int, i: int) -> str:
        people, places = ("Ada", "Ben", "Cleo"), ("attic", "barn", "yard")
        lines = []
        for move in range(2 * task):
            person, place = people[(i + move) % 3], places[(task + i + move) % 3]
            lines += [f"{2 * move + 1} {person} went to the {place}."]
            lines += [f"{2 * move + 2} Where is {person}? \t{place}\t{2 * move + 1}"]
        return "".join(f"{line}\n" for line in lines)

    return {
        f"tasks_1-20_v1-2/{_CONFIG}/qa{task}_{babi.TASK_NAMES[task]}_{split}.txt": "".join(
            story(task, i) for i in range(num_stories)
        ).encode()
        for task in _TASKS
        for split, num_stories in (("train", 4), ("test", 2))
    }


def pack(contents: Contents, change: Callable[[tarfile.TarInfo], None] = lambda member: None) -> bytes:
    """A tar file; `change` has its way with each header, after which the content stands as it was."""
    stream = io.BytesIO()
    for name, content in contents.items():
        member = tarfile.TarInfo(name)
        member.size = len(content)
        change(member)
        stream.write(member.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape"))
        stream.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
    return stream.getvalue() + bytes(2 * tarfile.BLOCKSIZE)


def flip(data: bytes, rng: random.Random) -> bytes:
    """Changes up to twenty bytes."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 20)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _flip_compressed(rng: random.Random) -> bytes:
    return flip(gzip.compress(pack(make_contents())), rng)


def _cut_compressed(rng: random.Random) -> bytes:
    data = gzip.compress(pack(make_contents()))
    return data[: rng.randrange(len(data))]


def _flip_headers(rng: random.Random) -> bytes:
    data = pack(make_contents())
    start = rng.choice([i for i in range(0, len(data), tarfile.BLOCKSIZE) if data[i + 257 : i + 262] == b"ustar"])
    header = bytearray(flip(data[start : start + tarfile.BLOCKSIZE], rng))
    if rng.random() < 0.8:  # With a checksum that fits, or else nothing behind it is looked at.
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    return gzip.compress(data[:start] + bytes(header) + data[start + tarfile.BLOCKSIZE :])


def _flip_contents(rng: random.Random) -> bytes:
    contents = make_contents()
    name = rng.choice(list(contents))
    contents[name] = flip(contents[name], rng)
    return gzip.compress(pack(contents))


def _change_lines(rng: random.Random) -> bytes:
    contents = make_contents()
    name = rng.choice(list(contents))
    lines = contents[name].splitlines(keepends=True)
    for _ in range(rng.randint(1, 3)):
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        kind = rng.randrange(5)
        if kind == 0 and len(lines) > 1:
            del lines[i]
        elif kind == 1:
            lines[i] = lines[i][: rng.randrange(len(lines[i]) + 1)]
        elif kind == 2:
            lines[i], lines[j] = lines[j], lines[i]
        elif kind == 3:
            lines.insert(i, lines[j])
        else:
            lines[i] = lines[i] * rng.choice([2, 1000])
    contents[name] = b"".join(lines)
    return gzip.compress(pack(contents))


def _swap_numbers(rng: random.Random) -> bytes:
    contents = make_contents()
    name = rng.choice(list(contents))
    digits = [i for i, byte in enumerate(contents[name]) if chr(byte).isdigit()]
    i = rng.choice(digits)
    number = rng.choice(["0", "9", "10", "-1", "1e3", "9" * 20, "9" * 5000, "²", ""])
    contents[name] = contents[name][:i] + number.encode() + contents[name][i + 1 :]
    return gzip.compress(pack(contents))


def _rename(rng: random.Random) -> bytes:
    contents = make_contents()
    name = rng.choice(list(contents))
    new = rng.choice(
        [
            "../outside.txt",
            "/tmp/outside.txt",
            "..",
            "",
            ".",
            f"./{name}",
            f"../{name}",
            f"{name}/x",
            "x" * 5000,
            "\udcff",
        ]
    )
    changed = {new if key == name else key: content for key, content in contents.items()}
    if rng.random() < 0.5:
        changed |= {name: contents[name]}
    return gzip.compress(pack(changed))


def _change_kind(rng: random.Random) -> bytes:
    contents = make_contents()
    name = rng.choice(list(contents))
    kinds = (
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.DIRTYPE,
        tarfile.FIFOTYPE,
        tarfile.CHRTYPE,
        tarfile.GNUTYPE_SPARSE,
    )
    kinds += (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.CONTTYPE, b"?")

    def change(member: tarfile.TarInfo) -> None:
        if member.name == name:
            member.type = rng.choice(kinds)
            member.linkname = rng.choice(["", name, "/etc/passwd", "../../etc/passwd", *contents])

    return gzip.compress(pack(contents, change))


def _change_size(rng: random.Random) -> bytes:
    contents = make_contents()
    name = rng.choice(list(contents))

    def change(member: tarfile.TarInfo) -> None:
        if member.name == name:
            member.size = rng.choice([0, 1, member.size + 512, 2**20, 2**33 - 1, 2**40, 2**62, -1, -512, -(2**40)])
            if rng.random() < 0.3:
                member.pax_headers = {"GNU.sparse.realsize": str(member.size), "GNU.sparse.major": "1", "size": "x"}

    try:
        return gzip.compress(pack(contents, change))
    except ValueError:  # There is no way to write this number.
        return gzip.compress(pack(contents)[: -3 * tarfile.BLOCKSIZE])


def _bomb(rng: random.Random) -> bytes:
    contents = make_contents()
    kind = rng.randrange(4)
    if kind == 0:
        return gzip.compress(pack(contents) + bytes(_BOMB), 1)
    if kind == 1:
        contents = {"zeros": bytes(_BOMB), **contents}
    elif kind == 2:
        contents |= {rng.choice(list(contents)): b"1 " + b"a " * 2**20 + b"a.\n"}
    else:
        contents = {**{str(i): b"" for i in range(12_000)}, **contents}
    return gzip.compress(pack(contents), 1)


KINDS: dict[str, Callable[[random.Random], bytes]] = {
    "compressed bytes flipped": _flip_compressed,
    "compressed bytes cut off": _cut_compressed,
    "headers flipped": _flip_headers,
    "bytes of files flipped": _flip_contents,
    "lines changed": _change_lines,
    "numbers changed": _swap_numbers,
    "files renamed": _rename,
    "links and the like": _change_kind,
    "sizes changed": _change_size,
    "bombs": _bomb,
}
# A bomb takes as long as a hundred others.
_WEIGHTS = [0.2 if kind == "bombs" else 10.0 for kind in KINDS]


def run(directory: pathlib.Path, num_archives: int, seed: int) -> Outcome:
    """Loads archives that were tampered with.

    Args:
      directory: an empty one; nothing is left in it.
      num_archives: how many.
      seed: of what is done to them.
    """
    outcome = Outcome(Counter(), Counter(), [], 0.0, 0.0)
    before = _peak_mebibytes()
    path, cache = directory / "archive.tar.gz", directory / "cache"
    for i in range(num_archives):
        rng = random.Random(f"{seed} {i}")
        (kind,) = rng.choices(list(KINDS), _WEIGHTS)
        path.write_bytes(KINDS[kind](rng))
        start = time.perf_counter()
        try:
            babi.load(_CONFIG, _TASKS, rng.choice(babi.LAYOUTS), archive=path, cache_directory=cache)
            outcome.read[kind] += 1
        except (ValueError, OSError) as error:
            outcome.refused[kind] += 1
            if not str(error) or len(str(error).splitlines()) != 1:
                outcome.failures.append(Failure(i, kind, f"not one line: {error!r}"))
        except Exception as error:  # Just this is looked for.
            outcome.failures.append(Failure(i, kind, repr(error)))
        seconds = time.perf_counter() - start
        outcome = outcome._replace(most_seconds=max(outcome.most_seconds, seconds))
        if seconds > _MOST_SECONDS:
            outcome.failures.append(Failure(i, kind, f"took {seconds:.1f} seconds"))
        if left := {file.name for file in directory.iterdir()} - {path.name, cache.name}:
            outcome.failures.append(Failure(i, kind, f"wrote {left}"))
        for file in cache.glob("*"):
            if file.suffix != ".npz":
                outcome.failures.append(Failure(i, kind, f"left {file.name} in the cache"))
            file.unlink()
    path.unlink(missing_ok=True)
    return outcome._replace(added_mebibytes=_peak_mebibytes() - before)


def _peak_mebibytes() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main(argv: Sequence[str]) -> None:
    """Prints what came of all archives."""
    del argv
    with tempfile.TemporaryDirectory() as directory:
        outcome = run(pathlib.Path(directory), _NUM.value, _MUTATION_SEED.value)
    print(f"{'what was done':<28} {'read':>6} {'refused':>8}")
    for kind in KINDS:
        print(f"{kind:<28} {outcome.read[kind]:>6} {outcome.refused[kind]:>8}")
    print(f"the slowest took {outcome.most_seconds:.2f} seconds; memory grew by {outcome.added_mebibytes:.0f} MiB")
    for failure in outcome.failures[:20]:
        print(f"archive {failure.number}, {failure.kind}: {failure.what}")
    too_large = outcome.added_mebibytes > _MOST_MEBIBYTES
    print(
        f"{len(outcome.failures)} of {_NUM.value} did what they must not" + ("; too much memory" if too_large else "")
    )
    sys.exit(bool(outcome.failures) or too_large)


if __name__ == "__main__":
    app.run(main)
