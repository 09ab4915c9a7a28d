"""A small archive, made up."""

import io
import tarfile

from mnm_jax.tasks.babi import TASK_NAMES
from mnm_jax.tasks.babi.stories import CONFIGS

NAMES = ("Ada", "Ben", "Cleo", "Dan")
PLACES = ("attic", "barn", "cellar", "yard")


def make_file(task, num_stories, shift, lengths):
    """Stories of so many moves, with a question after each move and one more at the end of every other story."""
    lines = []
    for story in range(num_stories):
        number = 0
        for move in range(lengths[story]):
            name, place = NAMES[(story + move) % 4], PLACES[(task + move + shift) % 4]
            lines.append(f"{number + 1} {name} went to the {place}.")
            lines.append(f"{number + 2} Where is {name}? \t{place}\t{number + 1}")
            number += 2
        if story % 2:
            lines.append(f"{number + 1} Who went far away?\t{name},{NAMES[story % 4]}\t{number - 1} 1")
    return "".join(f"{line}\n" for line in lines)


def make_contents(lengths=(1, 2, 3, 4, 5)):
    """Contents by name of a whole archive: five training stories and two test stories of each task."""
    return {
        f"tasks_1-20_v1-2/{config}/qa{task}_{name}_{split}.txt": make_file(task, num_stories, shift, lengths)
        for config in CONFIGS
        for task, name in TASK_NAMES.items()
        for split, num_stories, shift in (("train", 5, 0), ("test", 2, 1))
    }


def write_archive(path, contents):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
    return path
