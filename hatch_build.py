"""Build hook: compile the C kernel into the wheel, or leave a pure wheel where that is impossible.

Plain compiler calls with the flags of the running Python; the extension is a few files without
dependencies. An editable install gets the extension beside its sources.
"""

import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "cdr_plugin/kernel"

# Beyond Python's own CFLAGS, which may be -O2 or even -O0 in a debug build.
FLAGS = ["-std=c11", "-O3", "-fno-strict-aliasing", "-fvisibility=hidden", "-fPIC"]


class CannotCompile(Exception):
    """The text says why, for the one warning."""


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds ``cdr_plugin/kernel/_kernel<EXT_SUFFIX>`` to a wheel and tags the wheel accordingly."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; ``version`` is ``standard`` or ``editable``."""
        if self.target_name != "wheel":
            return
        folder = Path(self.root, PACKAGE)
        name = f"_kernel{extension_suffix()}"
        self._scratch = tempfile.TemporaryDirectory(prefix="cdr-kernel-")
        built = Path(self._scratch.name, name)
        try:
            compile_extension(sources(folder), built)
        except CannotCompile as reason:
            self.app.display_warning(
                f"The C kernel was not built: {reason}. CDR will work, with slow scanning and chunking. "
                "Install a C compiler and the Python headers, then reinstall."
            )
            return
        if version == "editable":
            place_in(folder, built)
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        build_data["force_include"][str(built)] = f"{PACKAGE}/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the scratch folder, which had to last until the wheel was written."""
        if hasattr(self, "_scratch"):
            self._scratch.cleanup()


def extension_suffix() -> str:
    """For example ``.cpython-311-x86_64-linux-gnu.so``."""
    return str(sysconfig.get_config_var("EXT_SUFFIX") or ".so")


def sources(folder: Path) -> list[Path]:
    """The C files of which the extension is made."""
    return sorted(folder.glob("*.c"))


def compile_extension(files: list[Path], target: Path) -> None:
    """Compile C files and link them; raises ``CannotCompile``."""
    include = sorted({sysconfig.get_path("include"), sysconfig.get_path("platinclude")})
    headers = [f"-I{path}" for path in include]
    compiled = [str(target.with_name(f"{source.stem}.o")) for source in files]
    for source, unit in zip(files, compiled, strict=True):
        run([*words("CC"), *words("CFLAGS"), *FLAGS, *headers, "-c", str(source), "-o", unit])
    run([*words("LDSHARED"), *compiled, "-o", str(target)])


def words(variable: str) -> list[str]:
    """A build variable of the running Python, split as a shell would."""
    return shlex.split(sysconfig.get_config_var(variable) or "")


def run(command: list[str]) -> None:
    """Run a compiler; raises ``CannotCompile`` with its first error."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    except OSError as error:
        raise CannotCompile(f"cannot run {command[0]}: {error.strerror}") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        complaint = next((line for line in lines if "error" in line), lines[-1])
        raise CannotCompile(f"{command[0]} failed: {complaint}")


def place_in(folder: Path, built: Path) -> None:
    """Put the extension into the folder in one step: a process may have the old one mapped."""
    fresh = folder / f".{built.name}.new"
    fresh.write_bytes(built.read_bytes())
    fresh.chmod(0o755)
    fresh.replace(folder / built.name)
