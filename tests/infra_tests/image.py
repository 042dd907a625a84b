"""A container image built on a Debian of this test's own, and commands run in it as its user.

The image's root is mounted read-only, in namespaces of its own, without capabilities: as by
`docker run --read-only --cap-drop ALL --security-opt no-new-privileges --network none`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SUITE = "bookworm"
BASE = "localhost/affectune-test-base"
STORAGE = '[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
ENTER = """
set -e
mount --make-rprivate /
mount --bind "$IMAGE" "$IMAGE"
mount -o remount,bind,ro "$IMAGE"
mount -t proc proc "$IMAGE/proc"
mount -t tmpfs -o nosuid,mode=755 tmpfs "$IMAGE/dev"
for name in null zero full random urandom; do
  touch "$IMAGE/dev/$name"; mount --bind "/dev/$name" "$IMAGE/dev/$name"
done
ln -s /proc/self/fd "$IMAGE/dev/fd"
mkdir "$IMAGE/dev/shm"
mount -t tmpfs -o noexec,nosuid,nodev,mode=1777 tmpfs "$IMAGE/dev/shm"
mount -t tmpfs -o noexec,nosuid,nodev,mode=1777 tmpfs "$IMAGE/tmp"
[ -z "$DATA" ] || mount --bind "$DATA" "$IMAGE/data"
ip link set lo up
mount -o remount,bind,ro "$IMAGE/dev"
exec chroot "$IMAGE" setpriv --reuid="${AS%:*}" --regid="${AS#*:}" --clear-groups --no-new-privs \
  --bounding-set=-all --inh-caps=-all env -i -C "$FOLDER" "$@"
"""
"""What the first process does before it becomes the command: as Docker mounts a read-only root."""


@dataclass(frozen=True)
class Image:
    """An image that was built.

    Attributes:
        root: its mounted file system.
        config: of the image: its user, environment, entry point and health check.
        data: the folder that is its volume; it belongs to the image's user.
    """

    root: Path
    config: Mapping[str, Any]
    data: Path

    def run(
        self,
        *arguments: str,
        entry: list[str] | None = None,
        env: Mapping[str, str] | None = None,
        has_data: bool = True,
        timeout_s: float = 300.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the image as its user; `output.stdout` has both streams.

        Args:
            *arguments: what follows the entry point.
            entry: in place of the image's entry point.
            env: further variables.
            has_data: whether the volume is there; else nothing but /tmp and /dev/shm is writable.
            timeout_s: after which it is killed.
        """
        own = dict(line.split("=", 1) for line in self.config["Env"]) | dict(env or {})
        command = [*(self.config["Entrypoint"] if entry is None else entry), *arguments]
        return subprocess.run(
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net"),
                *("--ipc", "--uts", "--fork", "--kill-child", "sh", "-c", ENTER, "image"),
                *(f"{name}={value}" for name, value in own.items()),
                *command,
            ],
            env=os.environ
            | {
                "IMAGE": str(self.root),
                "DATA": str(self.data) if has_data else "",
                "AS": self.config["User"],
                "FOLDER": self.config["WorkingDir"],
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def reason_to_skip() -> str | None:
    """Return why no image can be built and run here; None where it can."""
    if os.geteuid() or sys.platform != "linux":
        return "images are built and run by root, on Linux"
    programs = ("buildah", "debootstrap", "unshare", "setpriv", "chroot", "ip")
    if missing := [name for name in programs if not shutil.which(name)]:
        return f"building and running the image needs {', '.join(missing)}"
    if not debian_mirror():
        return f"apt of this machine names no mirror of Debian for {SUITE}"
    return None


def debian_mirror() -> str | None:
    """Return the address from which this machine's apt has its packages of Debian."""
    for path in [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]:
        if not path.is_file():
            continue
        for address in re.findall(r"^(?:URIs:|deb) .*?(https?://\S+)", path.read_text(), re.M):
            if address.rstrip("/").endswith("/debian"):
                return str(address)
    return None


@contextlib.contextmanager
def built_image(work: Path, kept: Path) -> Iterator[Image]:
    """Build the image on a Debian made by debootstrap, mount it, and remove it at the end.

    Args:
        work: a folder for the image's files, of some GB.
        kept: where the Debian is kept for the next time.

    Raises:
        subprocess.CalledProcessError: a program failed; its output was printed.
    """
    driver = "overlay" if _is_on_plain_disk(work) else "vfs"
    (work / "storage.conf").write_text(STORAGE.format(driver=driver, folder=work))
    env = os.environ | {
        "CONTAINERS_STORAGE_CONF": str(work / "storage.conf"),
        "BUILDAH_ISOLATION": "chroot",
    }
    try:
        _make_base(kept / f"debian-{SUITE}.tar", work, env)
        pip_conf, volumes = _pip_settings(work)
        build = [sys.executable, "infra/image.py", "--engine", "buildah", "--base", BASE]
        build += ["--tag", "localhost/affectune-test", "--pip-conf", str(pip_conf)]
        build += ["--torch-index", "", *(word for path in volumes for word in ("--volume", path))]
        _run([*build, "--", "--layers=false", "--pull=never"], env)

        container = _output(["buildah", "from", "--pull=never", "localhost/affectune-test"], env)
        about = json.loads(_output(["buildah", "inspect", container], env))
        data = work / "data"
        data.mkdir(mode=0o700)
        os.chown(data, 10001, 10001)
        mounted = Path(_output(["buildah", "mount", container], env))
        yield Image(mounted, about["Docker"]["config"], data)
    finally:
        for command in (["umount", "--all"], ["rm", "--all"], ["rmi", "--all", "--force"]):
            subprocess.run(["buildah", *command], env=env, capture_output=True, check=False)


def _make_base(archive: Path, work: Path, env: Mapping[str, str]) -> None:
    """Make the image of a Debian from its archive, which is made first where it is not there."""
    if not archive.exists():
        folder = work / "debian"
        mirror = debian_mirror()
        assert mirror is not None
        command = ["debootstrap", "--variant=minbase", "--include=ca-certificates"]
        _run([*command, SUITE, str(folder), mirror], env)
        archive.parent.mkdir(parents=True, exist_ok=True)
        partial = archive.with_suffix(".partial")
        _run(["tar", "--numeric-owner", "-C", str(folder), "-cf", str(partial), "."], env)
        partial.replace(archive)
    container = _output(["buildah", "from", "scratch"], env)
    _run(["buildah", "add", "--quiet", container, str(archive), "/"], env)
    _run(["buildah", "commit", "--quiet", "--rm", container, BASE], env)


def _pip_settings(work: Path) -> tuple[Path, list[str]]:
    """Return pip's settings of this machine as a file, and the folders that they name."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    settings, folders = {}, set()
    for line in lines:
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = value.strip("'\"")
    settings.pop("constraint", None)  # the image has its own
    for value in settings.values():
        for word in value.split():
            path = Path(word.removeprefix("file://"))
            if path.is_absolute() and path.exists():
                # The pages of an index may name files that lie beside it.
                is_whole = path.is_dir() and not word.startswith("file://")
                folders.add(str(path if is_whole else path.parent))
    path = work / "pip.conf"
    path.write_text("[global]\n" + "".join(f"{name} = {settings[name]}\n" for name in settings))
    return path, sorted(folders)


def _is_on_plain_disk(folder: Path) -> bool:
    """Return whether file systems can be laid over one another here."""
    command = ["stat", "--file-system", "--format=%T", str(folder)]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() != "overlayfs"


def _run(command: list[str], env: Mapping[str, str]) -> None:
    """Run a command; what it says is printed where it fails."""
    done = subprocess.run(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        print(done.stdout)
        done.check_returncode()


def _output(command: list[str], env: Mapping[str, str]) -> str:
    return subprocess.run(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
