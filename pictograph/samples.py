"""Photographs for the demonstration: from packages that are installed with it, or from a folder of the reader's.

foolbox carries twenty ImageNet photographs, with their class in the file name; scikit-image and scikit-learn carry some
more. They are dealt out to three made-up users by what they show.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import ConfigurationError
from pipeline.sources.s3 import S3Access, translated
from taxonomy.graph import load

UPLOADS_AT_ONCE = 8

#: Photographs of scikit-image and scikit-learn, by user; drawings, charts and micrographs are left out.
OTHERS = {
    "cleo": (("skimage", "data/chelsea.png"), ("skimage", "data/horse.png")),
    "marie": (
        ("skimage", "data/coffee.png"),
        ("skimage", "data/motorcycle_left.png"),
        ("skimage", "data/motorcycle_right.png"),
        ("skimage", "data/coins.png"),
    ),
    "otto": (
        ("sklearn", "datasets/images/china.jpg"),
        ("sklearn", "datasets/images/flower.jpg"),
        ("skimage", "data/rocket.jpg"),
        ("skimage", "data/astronaut.png"),
        ("skimage", "data/camera.png"),
        ("skimage", "data/hubble_deep_field.jpg"),
        ("skimage", "data/brick.png"),
        ("skimage", "data/grass.png"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A photograph to upload."""

    user: str
    name: str  # below the user
    path: Path


def bundled() -> list[Picture]:
    """The photographs that the installed packages carry, of three users.

    Raises:
        ConfigurationError: the packages are not installed.
    """
    taxonomy = load()
    animal = taxonomy.node("n00015388")
    pictures = []
    for path in sorted((_folder("foolbox") / "data").glob("imagenet_*.jpg")):
        match = re.fullmatch(r"imagenet_\d+_(\d+)", path.stem)
        if match is not None:
            label = int(taxonomy.label_nodes[int(match[1])])
            user = "cleo" if taxonomy.is_under(label, animal) else "marie" if int(match[1]) % 2 else "otto"
            pictures.append(Picture(user=user, name=path.name, path=path))
    for user, files in OTHERS.items():
        found = [_folder(package) / file for package, file in files]
        pictures += [Picture(user=user, name=path.name, path=path) for path in found if path.is_file()]
    return pictures


def of_folder(folder: Path) -> list[Picture]:
    """Every file two levels or more below `folder`; the first level names the users.

    Raises:
        ConfigurationError: there are none.
    """
    if not folder.is_dir():
        raise ConfigurationError(f"There is no folder {folder}; check --photos.")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    pictures = []
    for path in files:
        user, *rest = path.relative_to(folder).parts
        if rest:
            pictures.append(Picture(user=user, name="/".join(rest), path=path))
    if not pictures:
        raise ConfigurationError(f"{folder} holds no folder with photos; make one folder per user in it.")
    return pictures


def upload(access: S3Access, bucket: str, prefix: str, pictures: list[Picture]) -> None:
    """Make the prefix hold exactly these pictures, each under its user."""
    client = access.client(UPLOADS_AT_ONCE)
    wanted = {f"{prefix}{picture.user}/{picture.name}": picture for picture in pictures}

    def put(key: str) -> None:
        with translated(access.place, bucket):
            client.put_object(Bucket=bucket, Key=key, Body=wanted[key].path.read_bytes())

    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        list(pool.map(put, wanted))
    with translated(access.place, bucket):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for item in [item for page in pages for item in page.get("Contents", [])]:
            if item["Key"] not in wanted:
                client.delete_object(Bucket=bucket, Key=item["Key"])


def file_name(user: str) -> str:
    """A user's name as a file name."""
    return re.sub(r"[^\w.-]+", "_", user).strip(".") or "_"


def _folder(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            f"The package {package}, which carries sample photographs, is not installed; pip install "
            "'pictograph[samples]', or pass --photos FOLDER."
        )
    return Path(spec.origin).parent
