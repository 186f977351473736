"""Photographs for the demonstration: from packages that are installed with it, or from a folder of the reader's.

foolbox carries twenty ImageNet photographs; scikit-image and scikit-learn carry some more. They are dealt out to three
made-up users, each with an eye for something: cleo for animals, marie for what she meets on the road, otto for things.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import ConfigurationError
from pipeline.sources.s3 import S3Access, translated

UPLOADS_AT_ONCE = 8

#: By user and the name of the photograph: where it lies, from the package on.
BUNDLED = {
    "cleo": {
        "mastiff.jpg": "foolbox/data/imagenet_00_243.jpg",
        "dalmatian.jpg": "foolbox/data/imagenet_16_251.jpg",
        "cat.png": "skimage/data/chelsea.png",
        "herons.jpg": "foolbox/data/imagenet_14_129.jpg",
        "geese.jpg": "foolbox/data/imagenet_15_99.jpg",
        "eagle.jpg": "foolbox/data/imagenet_17_22.jpg",
        "leafhopper.jpg": "foolbox/data/imagenet_18_317.jpg",
        "beetle.jpg": "foolbox/data/imagenet_19_305.jpg",
    },
    "marie": {
        "desert.jpg": "foolbox/data/imagenet_06_609.jpg",
        "hillside.jpg": "foolbox/data/imagenet_07_609.jpg",
        "motorcycle.png": "skimage/data/motorcycle_left.png",
        "motorcycle_again.png": "skimage/data/motorcycle_right.png",
        "rocket.jpg": "skimage/data/rocket.jpg",
        "cottages.jpg": "foolbox/data/imagenet_05_853.jpg",
        "yurts.jpg": "foolbox/data/imagenet_08_915.jpg",
        "pagoda.jpg": "sklearn/datasets/images/china.jpg",
        "cannon.jpg": "foolbox/data/imagenet_13_471.jpg",
    },
    "otto": {
        "deck_chairs.jpg": "foolbox/data/imagenet_01_559.jpg",
        "glass_windows.jpg": "foolbox/data/imagenet_12_741.jpg",
        "drum.jpg": "foolbox/data/imagenet_10_541.jpg",
        "cameraman.png": "skimage/data/camera.png",
        "beakers.jpg": "foolbox/data/imagenet_02_438.jpg",
        "shoe.jpg": "foolbox/data/imagenet_11_630.jpg",
        "bottle_cap.jpg": "foolbox/data/imagenet_09_455.jpg",
        "coffee.png": "skimage/data/coffee.png",
        "strawberries.jpg": "foolbox/data/imagenet_04_949.jpg",
        "chestnuts.jpg": "foolbox/data/imagenet_03_990.jpg",
        "dahlia.jpg": "sklearn/datasets/images/flower.jpg",
    },
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
    pictures = []
    for user, files in BUNDLED.items():
        for name, place in files.items():
            package, _, file = place.partition("/")
            pictures.append(Picture(user=user, name=name, path=_folder(package) / file))
    return [picture for picture in pictures if picture.path.is_file()]


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


def upload(access: S3Access, bucket: str, prefix: str, pictures: list[Picture], *, replace: bool) -> None:
    """Make the prefix hold exactly these pictures, each under its user; `replace` permits to delete what else is there.

    Raises:
        ConfigurationError: something else is there, and may not be deleted; nothing has been changed.
    """
    client = access.client(UPLOADS_AT_ONCE)
    wanted = {f"{prefix}{picture.user}/{picture.name}": picture for picture in pictures}
    with translated(access.place, bucket):
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        foreign = [item["Key"] for page in pages for item in page.get("Contents", []) if item["Key"] not in wanted]
    if foreign and not replace:
        raise ConfigurationError(
            f"s3://{bucket}/{prefix} holds other photos than these ({foreign[0]}, for one), and is left alone; empty "
            "it, or name another bucket with PICTOGRAPH_S3_BUCKET."
        )

    def put(key: str) -> None:
        with translated(access.place, bucket):
            client.put_object(Bucket=bucket, Key=key, Body=wanted[key].path.read_bytes())

    with ThreadPoolExecutor(UPLOADS_AT_ONCE) as pool:
        list(pool.map(put, wanted))
    with translated(access.place, bucket):
        for key in foreign:
            client.delete_object(Bucket=bucket, Key=key)


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
