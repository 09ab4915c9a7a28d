"""The bAbI tasks: read a story, answer questions about it.

`load` gives the episodes in buckets of equal length, `sample` draws from a bucket, and `Babi` is what training takes.
An episode of the layout `stream`, a whole story with its questions in place, the answers due at the question marks:

    read    mary moved to the bathroom . john went to the hallway . where is mary ?        daniel went ...
    answer                                                                        bathroom

With tensorflow-datasets (`pip install 'mnm_jax[babi]'`) the module `mnm_jax.tasks.babi.babi_dataset_builder` offers the
same stories and questions as a dataset, and downloads the archive where none is named.

Source: Weston et al., "Towards AI-Complete Question Answering: A Set of Prerequisite Toy Tasks", 2015
(arXiv:1502.05698).
"""

from mnm_jax.tasks.babi.buckets import Bucket, Example, Split, sample, take
from mnm_jax.tasks.babi.data import Data, load
from mnm_jax.tasks.babi.encoding import LAYOUTS, NO_ANSWER, Format, Vocabulary
from mnm_jax.tasks.babi.stories import (
    CONFIGS,
    OFFICIAL_SHA256,
    TASK_NAMES,
    ArchiveError,
    Question,
    Story,
    read_archive,
)
from mnm_jax.tasks.babi.task import VOCABULARY, Babi

__all__ = [
    "CONFIGS",
    "LAYOUTS",
    "NO_ANSWER",
    "OFFICIAL_SHA256",
    "TASK_NAMES",
    "VOCABULARY",
    "ArchiveError",
    "Babi",
    "Bucket",
    "Data",
    "Example",
    "Format",
    "Question",
    "Split",
    "Story",
    "Vocabulary",
    "load",
    "read_archive",
    "sample",
    "take",
]
