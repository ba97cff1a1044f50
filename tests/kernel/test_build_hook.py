"""The build hook compiles the kernel, or says in one sentence why it cannot."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("hatchling")

import hatch_build

FOLDER = Path(hatch_build.__file__).parent / hatch_build.PACKAGE


def test_compiled_kernel_can_be_loaded_and_passes_its_self_test(tmp_path: Path) -> None:
    target = tmp_path / f"_kernel{hatch_build.extension_suffix()}"
    try:
        hatch_build.compile_extension(hatch_build.sources(FOLDER), target)
    except hatch_build.CannotCompile as reason:
        pytest.skip(str(reason))
    spec = importlib.util.spec_from_file_location("_kernel", target)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.use_fast_path(True) is True


def test_failure_to_compile_quotes_the_first_error(tmp_path: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text("#warning harmless\n#error no such machine\n")
    with pytest.raises(hatch_build.CannotCompile, match=r"no such machine|cannot run"):
        hatch_build.compile_extension([source], tmp_path / "broken.so")


def test_missing_compiler_is_named() -> None:
    with pytest.raises(hatch_build.CannotCompile, match="cannot run no-such-compiler: No such file"):
        hatch_build.run(["no-such-compiler", "-c"])


def test_extension_is_replaced_in_one_step(tmp_path: Path) -> None:
    built = tmp_path / "build" / "_kernel.so"
    built.parent.mkdir()
    built.write_bytes(b"new")
    (tmp_path / "_kernel.so").write_bytes(b"old")
    mapped = (tmp_path / "_kernel.so").open("rb")
    hatch_build.place_in(tmp_path, built)
    with mapped:
        assert mapped.read() == b"old"
    assert (tmp_path / "_kernel.so").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_kernel.so", "build"]
