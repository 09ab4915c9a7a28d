"""What the source distribution and the wheel hold."""

import email
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import mnm_jax

ROOT = pathlib.Path(__file__).parents[1]
BUILD = "from setuptools import build_meta as b; b.build_sdist('built'); b.build_wheel('built')"


@pytest.fixture(scope="module")
def tracked():
    """The names of what the repository tracks, and has."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not in a clone, or without git")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).is_symlink() | (ROOT / name).exists()}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory, tracked):
    """Built from what the repository tracks: the names in the source distribution, and the wheel."""
    pytest.importorskip("setuptools", minversion="70.1", reason="an older one cannot build a wheel by itself")
    directory = tmp_path_factory.mktemp("distributions") / "clone"
    for name in tracked:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, directory / name, follow_symlinks=False)
    build = subprocess.run([sys.executable, "-c", BUILD], cwd=directory, capture_output=True, text=True)
    assert build.returncode == 0, build.stderr
    built = directory / "built"
    with tarfile.open(next(built.glob("*.tar.gz"))) as source:
        source_names = {name.partition("/")[2] for name in source.getnames()}
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        yield source_names, wheel


def test_the_source_distribution_has_what_it_is_built_from_and_no_tests(distributions):
    names, _ = distributions
    assert {"setup.cfg", "setup.py", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"} <= names
    assert {"mnm_jax/py.typed", "mnm_jax/cells/mnm.py", "experiments/dictionary.py"} <= names
    assert not {name for name in names if name.startswith(("tests", "docs", "benchmarks"))}


def test_the_wheel_has_the_packages_the_programs_and_the_trained_runs(distributions, tracked):
    _, wheel = distributions
    names = set(wheel.namelist())
    metadata = f"mnm_jax-{mnm_jax.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"mnm_jax", "experiments", metadata}
    assert {name for name in tracked if re.fullmatch(r"(mnm_jax|experiments)/.*\.py", name)} <= names
    assert {"mnm_jax/py.typed", "mnm_jax/tasks/babi/checksums.tsv"} <= names
    for name in ("tiny", "babi_chained", "maze9_mnm_p"):
        assert any(re.fullmatch(rf"experiments/results/{name}/\w+/config.json", path) for path in names)
    assert "mnm-jax = experiments.main:run" in wheel.read(f"{metadata}/entry_points.txt").decode()


def test_the_readme_of_the_package_index_links_to_nothing_that_is_not_there(distributions):
    _, wheel = distributions
    metadata = email.message_from_bytes(wheel.read(f"mnm_jax-{mnm_jax.__version__}.dist-info/METADATA"))
    readme = metadata.get_payload()
    assert readme.startswith("# mnm_jax")
    targets = re.findall(r"\]\(([^)]*)\)", readme)
    assert targets
    assert all(target.startswith("https://") for target in targets)
