"""Reading WordNet 3.0 with NLTK, to build a taxonomy for a model's labels. Needed at build time only.

NLTK wants its corpus below a data root of its own, with two files that distributions leave out: `lexnames` (see
lexnames(5WN)) and `index.sense`, which is only needed for look-ups by sense key and so may be empty. Its reader is
given a private copy with both.
"""

import hashlib
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from taxonomy.build import from_hypernyms
from taxonomy.codec import encode
from taxonomy.errors import UnknownSynset, WordNetMissing
from taxonomy.graph import Taxonomy
from taxonomy.labels import read_labels
from taxonomy.synset import Synset

NOUNS = """Tops act animal artifact attribute body cognition communication event feeling food group location motive
object person phenomenon plant possession process quantity relation shape state substance time"""
VERBS = """body change cognition communication competition consumption contact creation emotion motion perception
possession social stative weather"""

#: WordNet's lexicographer files in the order of their numbers, each with the number of its part of speech.
LEXNAMES = (
    *(("adj.all", 3), ("adj.pert", 3), ("adv.all", 4)),
    *((f"noun.{subject}", 1) for subject in NOUNS.split()),
    *((f"verb.{subject}", 2) for subject in VERBS.split()),
    ("adj.ppl", 3),
)
SUBJECTS = frozenset(lexname for lexname, _ in LEXNAMES)

FILES = ("cntlist.rev", *(f"{kind}.{pos}" for kind in ("index", "data") for pos in ("noun", "verb", "adj", "adv")))
EXCEPTIONS = ("noun.exc", "verb.exc", "adj.exc", "adv.exc")

WNID = re.compile(r"n(\d{8})")


class _Lemma(Protocol):
    """What is used of NLTK's lemma."""

    def count(self) -> int: ...


class _Found(Protocol):
    """What is used of NLTK's synset."""

    def offset(self) -> int: ...
    def pos(self) -> str: ...
    def lexname(self) -> str: ...
    def definition(self) -> str: ...
    def lemma_names(self) -> list[str]: ...
    def lemmas(self) -> list[_Lemma]: ...
    def hypernyms(self) -> list["_Found"]: ...
    def instance_hypernyms(self) -> list["_Found"]: ...


class _Reader(Protocol):
    """What is used of NLTK's WordNet reader."""

    def synset(self, name: str) -> _Found: ...
    def synset_from_pos_and_offset(self, pos: str, offset: int) -> _Found | None: ...


def build_files(labels_tsv: Path, wordnet_dir: Path, out_dir: Path, name: str) -> Path:
    """Builds the taxonomy of a list of labels into `out_dir` and returns the JSON file's path.

    Raises:
        TaxonomyError: the labels, WordNet or the resulting graph cannot be used; nothing is written then.
    """
    return write(build(read_labels(labels_tsv), name, wordnet_dir), out_dir)


def write(taxonomy: Taxonomy, out_dir: Path) -> Path:
    """Writes NAME.json and NAME.sha256, as `taxonomy.graph.load` reads them; the same bytes for the same taxonomy."""
    data = encode(taxonomy.stored())
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / f"{taxonomy.name}.json"
    path.write_bytes(data)
    (out_dir / f"{taxonomy.name}.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  {path.name}\n")
    return path


def build(labels: Sequence[str], name: str, wordnet_dir: Path) -> Taxonomy:
    """The taxonomy of labels given as synset ids (n02084071) or names (dog.n.01), over all of WordNet's hypernyms.

    Raises:
        WordNetMissing: `wordnet_dir` does not hold WordNet 3.0's files, or nltk is not installed.
        UnknownSynset: a label is not in WordNet.
        BadLabels, BadGraph: see `taxonomy.build.from_hypernyms`.
    """
    with open_wordnet(wordnet_dir) as wordnet:
        leaves = [_resolve(wordnet, label) for label in labels]
        reached = _closure(leaves)
        return from_hypernyms(
            name=name,
            labels=[_wnid(leaf) for leaf in leaves],
            synsets={wnid: _synset(found) for wnid, found in reached.items()},
            hypernyms={wnid: [_wnid(above) for above in _above(found)] for wnid, found in reached.items()},
        )


@contextmanager
def open_wordnet(wordnet_dir: Path) -> Iterator[_Reader]:
    """NLTK's reader over a private copy of WordNet's files."""
    try:
        import nltk.data  # noqa: PLC0415  # heavy, and an optional extra
        from nltk.corpus.reader.wordnet import WordNetCorpusReader  # noqa: PLC0415
    except ImportError as error:
        raise WordNetMissing("nltk, which reads WordNet, is missing; pip install 'pictograph[wordnet]'.") from error
    missing = [file for file in (*FILES, *EXCEPTIONS) if not (wordnet_dir / file).is_file()]
    if missing:
        raise WordNetMissing(f"{wordnet_dir} lacks WordNet's {missing[0]}; install wordnet-base, or name its folder.")
    with tempfile.TemporaryDirectory(prefix="wordnet-") as root:
        corpus = Path(root) / "corpora" / "wordnet"
        _copy(wordnet_dir, corpus)
        nltk.data.path.insert(0, root)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="The multilingual functions are not available")
                warnings.filterwarnings("ignore", message="No WordNet synset found")  # becomes UnknownSynset
                yield WordNetCorpusReader(str(corpus), omw_reader=None)
        finally:
            nltk.data.path.remove(root)


def _copy(wordnet_dir: Path, corpus: Path) -> None:
    corpus.mkdir(parents=True)
    for file in (*FILES, *EXCEPTIONS):
        shutil.copyfile(wordnet_dir / file, corpus / file)
    lines = [f"{number:02d}\t{lexname}\t{pos}\n" for number, (lexname, pos) in enumerate(LEXNAMES)]
    (corpus / "lexnames").write_text("".join(lines))
    (corpus / "index.sense").touch()


def _resolve(wordnet: _Reader, label: str) -> _Found:
    from nltk.corpus.reader.wordnet import WordNetError  # noqa: PLC0415

    try:
        if match := WNID.fullmatch(label):
            found = wordnet.synset_from_pos_and_offset("n", int(match[1]))
        else:
            found = wordnet.synset(label)
    except (WordNetError, ValueError) as error:
        raise UnknownSynset(f"WordNet 3.0 has no noun synset {label}; correct the list of labels.") from error
    if found is None or found.pos() != "n":
        raise UnknownSynset(f"WordNet 3.0 has no noun synset {label}; correct the list of labels.")
    return found


def _above(found: _Found) -> list[_Found]:
    return [*found.hypernyms(), *found.instance_hypernyms()]


def _closure(leaves: Sequence[_Found]) -> Mapping[str, _Found]:
    reached: dict[str, _Found] = {}
    waiting = list(leaves)
    while waiting:
        found = waiting.pop()
        if _wnid(found) not in reached:
            reached[_wnid(found)] = found
            waiting.extend(_above(found))
    return reached


def _wnid(found: _Found) -> str:
    return f"n{found.offset():08d}"


def _synset(found: _Found) -> Synset:
    counts = [lemma.count() for lemma in found.lemmas()]
    lemmas = tuple(found.lemma_names())
    return Synset(
        wnid=_wnid(found),
        lemmas=lemmas,
        name=lemmas[counts.index(max(counts))].replace("_", " "),
        gloss=found.definition(),
        subject=_subject(found.lexname(), lemmas),
        uses=sum(counts),
    )


def _subject(lexname: str, lemmas: Sequence[str]) -> str:
    """The lexicographer file; a beginner, which WordNet keeps apart in noun.Tops, belongs to the file it begins."""
    begun = f"noun.{lemmas[0]}"
    return begun if lexname == "noun.Tops" and begun in SUBJECTS else lexname
