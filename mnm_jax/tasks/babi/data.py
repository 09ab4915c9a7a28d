"""The bAbI tasks as training takes them: encoded, split, in buckets, and kept on disk as arrays."""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mnm_jax import _checks, _paths
from mnm_jax._files import whole_file
from mnm_jax.tasks.babi import stories as stories_lib
from mnm_jax.tasks.babi.buckets import MAX_PADDING_SHARE, MAX_PADDING_SHARE_OF_SENTENCES, Split, make_splits
from mnm_jax.tasks.babi.encoding import (
    LAYOUTS,
    MARKS,
    Episodes,
    Format,
    Vocabulary,
    encode,
    longest_sentence,
    make_vocabulary,
)
from mnm_jax.tasks.babi.overlap import count_questions, seen_questions
from mnm_jax.tasks.babi.stories import CONFIGS, TASK_NAMES, Story

VALIDATION_SHARE = 0.1

# To be raised when the same archive would give other arrays.
_FORMAT = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """The episodes of some tasks.

    Attributes:
      config: `'en'` or `'en-10k'`.
      tasks: which of 1 to 20, ascending.
      layout: `'stream'`, `'question'` or `'sentences'`, see `encode`.
      validation_seed: that chose the stories held out from training.
      archive_sha256: of the archive that it was made from. `OFFICIAL_SHA256` is that of the official one.
      vocabulary: what may be read and answered.
      train: what to learn from.
      validation: held out from the training files, for choosing a model.
      test: the test files.
    """

    config: str
    tasks: tuple[int, ...]
    layout: str
    validation_seed: int
    archive_sha256: str
    vocabulary: Vocabulary
    train: Split
    validation: Split
    test: Split

    @property
    def format(self) -> Format:
        """What all episodes have in common."""
        shape = self.train.buckets[-1].inputs.shape
        return Format(self.vocabulary, shape[1], shape[2] if self.layout == "sentences" else None)

    @functools.cached_property
    def is_seen(self) -> dict[str, tuple[np.ndarray, ...]]:
        """Of validation and test, for each bucket `[N, T]`: which questions training has too, after the same story."""
        marks = [self.vocabulary.symbols.index(mark) for mark in MARKS]
        splits = {"validation": self.validation, "test": self.test}
        return {name: seen_questions(split.buckets, self.train.buckets, marks) for name, split in splits.items()}

    def summary(self) -> dict[str, Any]:
        """All that there is to save with a run, in values that JSON knows."""
        splits = {
            name: {
                "episodes": split.num_episodes,
                "questions": split.num_questions,
                "padding_share": split.padding_share,
                "bucket_shares": split.shares.tolist(),
            }
            for name, split in (("train", self.train), ("validation", self.validation), ("test", self.test))
        }
        for name, is_seen in self.is_seen.items():
            counts = count_questions(getattr(self, name).buckets, is_seen)
            splits[name]["seen_in_training"] = [
                {"task": task, "questions": questions, "seen": seen} for task, (questions, seen) in counts.items()
            ]
        return {
            "config": self.config,
            "tasks": list(self.tasks),
            "layout": self.layout,
            "validation_seed": self.validation_seed,
            "archive_sha256": self.archive_sha256,
            "symbols": list(self.vocabulary.symbols),
            "answers": list(self.vocabulary.answers),
            "num_trained_answers": self.vocabulary.num_trained_answers,
            "bucket_steps": [bucket.num_steps for bucket in self.train.buckets],
            "drawn_padding_share": self.train.drawn_padding_share,
            "splits": splits,
        }


def load(
    config: str = "en-10k",
    tasks: Sequence[int] = tuple(TASK_NAMES),
    layout: str = "stream",
    *,
    validation_seed: int = 0,
    emphasis: Mapping[int, float] | None = None,
    archive: str | os.PathLike[str] | None = None,
    archive_sha256: str | None = None,
    cache_directory: str | os.PathLike[str] | None = None,
) -> Data:
    """Loads the tasks: from the cache, or else from the archive.

    Args:
      config: `'en'` (1,000 training questions a task) or `'en-10k'` (10,000).
      tasks: which of 1 to 20.
      layout: `'stream'`: an episode is a whole story with its questions in place; `'question'`: an episode is one
        question after the statements before it, without the questions before it; `'sentences'`: as a stream, but a step
        reads a whole sentence.
      validation_seed: chooses the tenth of each task's training stories that is held out.
      emphasis: how many times as often as the others a task is drawn in training.
      archive: path of `tasks_1-20_v1-2.tar.gz`, or of the directory into which it was extracted; else the environment
        variable `BABI_ARCHIVE` names it; else the official one is downloaded.
      archive_sha256: which archive it must have been, for a training that goes on. If its arrays are in the cache, the
        archive is not needed.
      cache_directory: where the arrays are kept, and what was downloaded; `None` for `$XDG_CACHE_HOME/mnm_jax/babi`,
        or else `~/.cache/mnm_jax/babi`. If it cannot be written to, the arrays are made each time, with a warning.

    Returns:
      The `Data`.

    Raises:
      ArchiveError: if the archive is damaged, cannot be had, or is another than `archive_sha256`.
      FileNotFoundError: if there is no archive of that name.
      OSError: if there is nowhere to put a download.
      ValueError: if an argument is not possible, or a file of the cache is damaged.
    """
    _checks.check_choice("config", config, CONFIGS)
    _checks.check_choice("layout", layout, LAYOUTS)
    stories_lib.check_tasks(tasks)
    tasks = tuple(sorted(set(map(int, tasks))))
    cached = _paths.user_cache() / "mnm_jax" / "babi" if cache_directory is None else cache_directory
    directory = _paths.expand(cached)

    path = None
    if archive_sha256 is None:
        path = stories_lib.named_archive(archive)
        archive_sha256 = stories_lib.OFFICIAL_SHA256 if path is None else stories_lib.sha256(path)
    about = {
        "format": _FORMAT,
        "config": config,
        "tasks": tasks,
        "layout": layout,
        "validation_seed": validation_seed,
        "archive_sha256": archive_sha256,
    }
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    cache = directory / f"{config}_{layout}_{key[:16]}.npz"
    if os.path.exists(cache):
        vocabulary, episodes = _restore(cache)
    else:
        path = path or stories_lib.named_archive(archive) or _download(directory)
        found = stories_lib.sha256(path)
        if found != archive_sha256:
            raise stories_lib.ArchiveError(f"{path} has the SHA-256 {found}, not {archive_sha256}")
        vocabulary, episodes = _prepare(path, config, tasks, layout, validation_seed)
        try:
            _save(cache, vocabulary, episodes)
        except OSError as error:
            warnings.warn(f"no cache: {directory} cannot be written to ({error}); {_HOW_TO_MOVE}", stacklevel=2)
    share = MAX_PADDING_SHARE_OF_SENTENCES if layout == "sentences" else MAX_PADDING_SHARE
    splits = make_splits(episodes, max_padding_share=share, emphasis=emphasis or {})
    return Data(config, tasks, layout, validation_seed, archive_sha256, vocabulary, **splits)


_HOW_TO_MOVE = "XDG_CACHE_HOME names another place for it"


def _download(directory: pathlib.Path) -> pathlib.Path:
    try:
        return stories_lib.download(directory / "downloads")
    except OSError as error:
        raise OSError(
            f"no archive is named, and a download cannot be put into {directory} ({error}); {_HOW_TO_MOVE}, and "
            "BABI_ARCHIVE the archive"
        ) from error


def _prepare(
    archive: pathlib.Path, config: str, tasks: tuple[int, ...], layout: str, validation_seed: int
) -> tuple[Vocabulary, dict[str, Episodes]]:
    stories = stories_lib.read_archive(archive, config, tasks)
    vocabulary = make_vocabulary(stories["train"], stories["test"])
    train, validation = hold_out(stories["train"], validation_seed)
    splits = {"train": train, "validation": validation, "test": stories["test"]}
    width = longest_sentence(itertools.chain(stories["train"], stories["test"]))
    return vocabulary, {name: encode(split, vocabulary, layout, width) for name, split in splits.items()}


def hold_out(stories: Sequence[Story], seed: int) -> tuple[list[Story], list[Story]]:
    """Parts a tenth of each task's stories from the others, at least one.

    Args:
      stories: of one or more tasks.
      seed: the same seed gives the same parts, whatever other tasks there are.

    Returns:
      What is left, and what is held out, both in the order given.

    Raises:
      ValueError: if a task has fewer than two stories.
    """
    of_task: dict[int, list[int]] = {}
    for i, story in enumerate(stories):
        of_task.setdefault(story.task, []).append(i)
    held: set[int] = set()
    for task, indices in of_task.items():
        if len(indices) < 2:
            raise ValueError(f"task {task} has one training story only, and one is to be held out")
        # A hash, so that no version of a random number generator matters.
        ranks = [hashlib.sha256(f"{seed} {task} {i}".encode()).digest() for i in range(len(indices))]
        order = sorted(range(len(indices)), key=ranks.__getitem__)
        held.update(indices[i] for i in order[: max(1, round(VALIDATION_SHARE * len(indices)))])
    kept = [story for i, story in enumerate(stories) if i not in held]
    return kept, [story for i, story in enumerate(stories) if i in held]


def _save(path: pathlib.Path, vocabulary: Vocabulary, splits: dict[str, Episodes]) -> None:
    """Writes the arrays, whole or not at all."""
    arrays = {f"{name}/{field}": x for name, split in splits.items() for field, x in split._asdict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        np.savez_compressed(file, vocabulary=json.dumps(vocabulary), **arrays)


def _restore(path: pathlib.Path) -> tuple[Vocabulary, dict[str, Episodes]]:
    try:
        with np.load(path) as arrays:
            symbols, answers, num_trained_answers = json.loads(str(arrays["vocabulary"]))
            episodes = {
                name: Episodes(*(arrays[f"{name}/{field}"] for field in Episodes._fields))
                for name in ("train", "validation", "test")
            }
    except (EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is damaged; remove it, and it is made again: {error}") from error
    return Vocabulary(tuple(symbols), tuple(answers), num_trained_answers), episodes
