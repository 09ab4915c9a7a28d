"""The bAbI tasks as a dataset of tensorflow-datasets.

No TensorFlow is needed:

    builder = Builder(config="en-10k", archive="tasks_1-20_v1-2.tar.gz")
    builder.download_and_prepare(file_format="array_record")
    examples = builder.as_data_source(split="train")
"""

import os
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from mnm_jax.tasks.babi import stories as stories_lib

_DESCRIPTION = """\
The 20 question-answering tasks of bAbI, version 1.2, in English. Each example is one question with the statements of
its story that stand before it. The configuration `en` has 1,000 training questions for each task, `en-10k` has 10,000;
the test questions are the same.

* `task`: 1 to 20.
* `story_id`: which story of the task's file, from 0. The questions of a story follow one another.
* `question_id`: which question of the story, from 0.
* `story`: the statements before the question, without the questions before it. So the whole story is that of its last
  question, and each question stands after the first `len(story)` statements.
* `question`: with its question mark.
* `answer`: one word, or several joined by commas.
* `supporting_facts`: the statements that the answer follows from, as indices into `story`, from 0.
"""

_CITATION = """\
@article{weston2015towards,
  title   = {Towards {AI}-Complete Question Answering: A Set of Prerequisite Toy Tasks},
  author  = {Weston, Jason and Bordes, Antoine and Chopra, Sumit and Rush, Alexander M. and van Merri{\\"e}nboer, Bart
             and Joulin, Armand and Mikolov, Tomas},
  journal = {arXiv preprint arXiv:1502.05698},
  year    = {2015}
}
"""

_ARCHIVE_SHA256 = "archive_sha256"


_Examples = Iterator[tuple[int, dict[str, Any]]]


class Builder(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc]  # tensorflow-datasets has no types.
    """Builder of the dataset `babi`, see the description in its `info`.

    The archive is the one given by its path, or else by the environment variable `BABI_ARCHIVE`; else the official one
    is downloaded, and its size and SHA-256 are compared with those in `checksums.tsv`. Which archive it was stands in
    `info.metadata["archive_sha256"]`.
    """

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES: ClassVar = {"1.2.0": "The version of the archive."}
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="en", description="1,000 training questions for each task."),
        tfds.core.BuilderConfig(name="en-10k", description="10,000 training questions for each task."),
    ]

    def __init__(self, *, archive: str | os.PathLike[str] | None = None, **kwargs: Any) -> None:
        """Makes the builder.

        Args:
          archive: path of `tasks_1-20_v1-2.tar.gz`.
          **kwargs: as for every builder of tensorflow-datasets.

        Raises:
          FileNotFoundError: if there is no such archive.
          ValueError: if the data directory holds what was prepared from another archive.
        """
        self._archive = stories_lib.named_archive(archive)
        super().__init__(**kwargs)
        # What a copy of the builder is made from in another process.
        self._original_state["archive"] = None if self._archive is None else os.fspath(self._archive)
        prepared = (self.info.metadata or {}).get(_ARCHIVE_SHA256)
        if self._archive is not None and prepared is not None:
            given = stories_lib.sha256(self._archive)
            if given != prepared:
                raise ValueError(
                    f"{self.data_dir} was prepared from the archive with SHA-256 {prepared}, and {self._archive} has "
                    f"{given}; name another data_dir"
                )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            homepage="https://research.facebook.com/downloads/babi/",
            license="Creative Commons Attribution 3.0",
            features=tfds.features.FeaturesDict(
                {
                    "task": np.int32,
                    "story_id": np.int32,
                    "question_id": np.int32,
                    "story": tfds.features.Sequence(tfds.features.Text()),
                    "question": tfds.features.Text(),
                    "answer": tfds.features.Text(),
                    "supporting_facts": tfds.features.Sequence(np.int32),
                }
            ),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, _Examples]:
        archive = _download(dl_manager) if self._archive is None else self._archive
        self.info.metadata[_ARCHIVE_SHA256] = stories_lib.sha256(archive)
        stories = stories_lib.read_archive(archive, self.builder_config.name)
        return {split: self._generate_examples(stories[split]) for split in stories_lib.SPLITS}

    def _generate_examples(self, stories: tuple[stories_lib.Story, ...]) -> _Examples:
        key = story_id = 0
        previous_task = None
        for story in stories:
            story_id = story_id + 1 if story.task == previous_task else 0
            previous_task = story.task
            for question_id, question in enumerate(story.questions):
                yield (
                    key,
                    {
                        "task": story.task,
                        "story_id": story_id,
                        "question_id": question_id,
                        "story": list(story.statements[: question.num_statements]),
                        "question": question.text,
                        "answer": question.answer,
                        "supporting_facts": list(question.supporting_facts),
                    },
                )
                key += 1


def _download(manager: tfds.download.DownloadManager) -> pathlib.Path:
    try:
        return pathlib.Path(manager.download(stories_lib.URL))
    # Each way to fail has a class of its own, some of them from other packages.
    except Exception as error:
        raise stories_lib.ArchiveError(
            f"{stories_lib.URL} could not be downloaded ({error}); {stories_lib.HOW_TO_NAME}"
        ) from error
