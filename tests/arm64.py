"""An ARM64 Linux in user-mode emulation: what is computed there, not how fast."""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from tiny_models import ROOT
from waits import HANG_SECONDS

REQUIREMENTS = ROOT / "requirements-edge.txt"
PYTHON = "3.11"  # of this release of Debian
RELEASE = "bookworm"
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
# The cache of this machine's user: what the tests set it to is empty. Read before they do.
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
TOOLS = ("qemu-aarch64-static", "debootstrap", "dpkg", "aarch64-linux-gnu-gcc")
OLD = "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
CPUS = {  # as qemu calls them: (features, part); the first two have no atomic instructions
    "cortex-a53": (OLD, "0xd03"),  # Raspberry Pi 3, Zero 2
    "cortex-a72": (OLD, "0xd08"),  # Raspberry Pi 4
    "cortex-a76": (f"{OLD} atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp", "0xd0b"),  # Pi 5
}


class CannotBeHad(Exception):
    """Says why there is no such machine here."""


class Arm64:
    """A machine with a CPU of `CPUS`, Python, and what `requirements-edge.txt` asks for.

    Args:
        cpu: key of `CPUS`.
        directory: an empty one.

    Attributes:
        packages: directory of the Python packages.

    Raises:
        CannotBeHad: a tool is missing, or an archive cannot be reached.
    """

    def __init__(self, cpu, directory):
        if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
            raise CannotBeHad(f"needs {', '.join(missing)}: apt-get install (see .ci/run)")
        disk = _disk()
        self.cpu, self.packages, self._root = cpu, disk / "packages", directory
        for folder in (disk / "root").iterdir():
            (directory / folder.name).symlink_to(folder)
        (directory / "proc").mkdir()
        features, part = CPUS[cpu]
        # LiteRT looks there: with the host's it dies.
        (directory / "proc" / "cpuinfo").write_text(
            f"processor\t: 0\nFeatures\t: {features}\nCPU implementer\t: 0x41\n"
            f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 3\n\n"
        )

    def python(self, *args):
        """Runs Python from the project's directory; returns `subprocess.CompletedProcess`."""
        home, paths = self._root / "usr", f"{self.packages}{os.pathsep}{ROOT}"
        environment = {"PYTHONHOME": home, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
        return self.run(home / "bin" / f"python{PYTHON}", *args, **environment)

    def run(self, program, *args, **environment):
        return subprocess.run(
            ["qemu-aarch64-static", "-L", self._root, program, *map(str, args)],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "QEMU_CPU": self.cpu, **environment},
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
        )


def _disk():
    """Debian and the packages, made once for all runs of the tests: two minutes, 350 MB."""
    key = hashlib.sha256(REQUIREMENTS.read_bytes() + RELEASE.encode()).hexdigest()[:12]
    disk = CACHE / "neo_keras" / f"arm64-{key}"
    if not disk.exists():
        disk.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="arm64-", dir=disk.parent) as directory:
            partial = pathlib.Path(directory) / "disk"
            _make(partial, pathlib.Path(directory) / "bootstrap")
            partial.rename(disk)
    return disk


def _make(disk, bootstrap):
    platforms = [f"--platform={platform}" for platform in PLATFORMS]
    _do(
        sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:",
        "--implementation=cp", f"--python-version={PYTHON}", *platforms,
        "--target", disk / "packages", "-r", REQUIREMENTS,
    )  # fmt: skip
    _do("debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", "--include=python3",
        RELEASE, bootstrap)  # fmt: skip
    (disk / "root").mkdir()
    for package in sorted((bootstrap / "var/cache/apt/archives").glob("*.deb")):
        _do("dpkg", "--extract", package, disk / "root")
    (disk / "root" / "proc").rmdir()


def _do(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr + done.stdout).strip().splitlines() or ["no words"]
        raise CannotBeHad(f"{command[0]} failed: {lines[-1]}")
