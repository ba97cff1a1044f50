"""Which kernel serves a process, and what it says about that."""

import subprocess
import sys
from pathlib import Path

import pytest

import cdr_plugin

ROOT = Path(cdr_plugin.__file__).parent.parent

HIDE_C = "import sys; sys.modules['cdr_plugin.kernel._kernel'] = None; "
SHOW = "import cdr_plugin.kernel as k; print(k.in_use, k.Chunker.__module__, k.read_files.__module__)"


def run(code: str, wanted: str | None) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT)} | ({} if wanted is None else {"CDR_KERNEL": wanted})
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("wanted", [None, "", "c"])
def test_c_is_used_where_it_was_built(wanted: str | None) -> None:
    done = run(SHOW, wanted)
    assert done.stdout.split()[:2] == ["c", "cdr_plugin.kernel._kernel"]
    assert done.stderr == ""


def test_python_is_used_silently_when_asked_for() -> None:
    done = run(SHOW, "python")
    assert done.stdout.split() == ["python", "cdr_plugin.kernel.reference", "cdr_plugin.kernel.reference"]
    assert done.stderr == ""


def test_missing_c_kernel_is_replaced_with_one_warning() -> None:
    done = run(HIDE_C + SHOW, None)
    assert done.stdout.split()[0] == "python"
    assert done.stderr.count("RuntimeWarning") == 1
    assert "scanning and chunking run in plain Python, correct but slow" in done.stderr


def test_asking_for_c_and_not_getting_it_is_an_error() -> None:
    done = run(HIDE_C + SHOW, "c")
    assert done.returncode == 1
    assert "ImportError: CDR_KERNEL=c asks for the compiled kernel, which cannot be loaded" in done.stderr
    assert "Reinstall CDR where there is a C compiler, or unset CDR_KERNEL." in done.stderr


def test_unknown_kernel_is_an_error() -> None:
    done = run(SHOW, "rust")
    assert done.returncode == 1
    assert "ValueError: CDR_KERNEL must be 'c' or 'python', not 'rust'" in done.stderr


@pytest.mark.usefixtures("compiled")
def test_the_reference_is_not_loaded_beside_c() -> None:
    code = "import sys, cdr_plugin.kernel; print('cdr_plugin.kernel.reference' in sys.modules)"
    assert run(code, "c").stdout == "False\n"


@pytest.mark.usefixtures("compiled")
def test_four_lanes_pass_their_test_vector_and_are_used() -> None:
    code = "from cdr_plugin.kernel import _kernel as k; print(k.use_fast_path(True))"
    assert run(code, "c").stdout == "True\n"
