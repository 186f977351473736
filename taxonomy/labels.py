"""A model's labels: which class index means which synset. A text file, one `index<TAB>synset` to a line."""

from pathlib import Path

from taxonomy.errors import BadLabels


def read_labels(path: Path) -> tuple[str, ...]:
    """The synset ids or names (dog.n.01) by class index; blank lines and lines starting with # are skipped.

    Raises:
        BadLabels: the file cannot be read, a line has no two columns, or the indices do not count up from 0.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadLabels(f"The labels in {path} cannot be read: {error}.") from error
    labels: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = line.split("\t")
        if len(fields) != 2 or fields[0] != str(len(labels)) or not fields[1].strip():
            raise BadLabels(f"Line {number} of {path} is not class {len(labels)}, a tab and a synset; correct it.")
        labels.append(fields[1].strip())
    return tuple(labels)


def format_labels(labels: tuple[str, ...]) -> str:
    """The text that `read_labels` reads."""
    return "".join(f"{index}\t{wnid}\n" for index, wnid in enumerate(labels))
