"""Made-up working directories, as a training command writes them."""

import json

import numpy as np
import pytest


def write_lines(path, lines):
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def write_run(tmp_path):
    """Writes the files of one model; `accuracies` is [S, E], evaluated every 50 updates. The task is the dictionary."""

    def write(model, accuracies, *, workdir=tmp_path, num_pairs=(2, 4), episode=False, errors=False, **task):
        directory = workdir / model
        directory.mkdir(parents=True)
        accuracies = np.asarray(accuracies)
        seeds = range(len(accuracies))
        task = {
            "num_pairs": 4,
            "num_queries": None,
            "word_length": 1,
            "source_alphabet_size": 10,
            "target_alphabet_size": 10,
        } | task
        config = {"task": task, "training": {"num_updates": 1000}}
        description = {"experiment": "dictionary", "model": model, "seeds": list(seeds), "config": config}
        (directory / "config.json").write_text(json.dumps(description))
        lines, timing = [], []
        for evaluation in range(accuracies.shape[1]):
            for seed in seeds:
                accuracy = float(accuracies[seed, evaluation])
                line = {"update": 50 * evaluation, "seed": seed, "eval_loss": 1 - accuracy}
                line |= {"eval_word_accuracy": accuracy, "eval_character_accuracy": accuracy**0.5}
                if evaluation > 0:
                    line["train_loss"] = 2 - accuracy
                if errors:
                    line |= {"eval_error_before": 1.0, "eval_error_after": 0.1 + seed}
                lines.append(line)
            timing.append({"update": 50 * evaluation, "seconds": 30.0 * evaluation})
        write_lines(directory / "metrics.jsonl", lines)
        write_lines(directory / "timing.jsonl", timing)
        if num_pairs:
            lines = [
                {"seed": seed, "num_pairs": pairs, "character_accuracy": 0.9, "word_accuracy": 1 / pairs + 0.01 * seed}
                for seed in seeds
                for pairs in num_pairs
            ]
            write_lines(directory / "generalization.jsonl", lines)
        if episode:
            np.savez(directory / "episode.npz", **make_episode())
        return directory

    return write


def make_episode(labels="a:$;a?", num_heads=2, size=3):
    rng = np.random.default_rng(0)
    names = ("write_keys", "read_keys", "write_values", "read_values")
    return {"labels": np.array(list(labels))} | {
        name: rng.normal(size=(len(labels), num_heads, size)) for name in names
    }


@pytest.fixture
def episode():
    return make_episode()
