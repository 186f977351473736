"""The immutable hypernym graph of a model's labels, and what follows from it.

Words used throughout
  class   0..L-1: a label's index in the model's output.
  node    0..V-1: a synset. Root first, and each parent before its children.
  column  0..C-1: what masses are indexed by. Columns 0..V-1 are the nodes; their mass counts every label under them,
          along any path. A category whose labels under the display tree differ from those has a second, area-only
          column from V on; its mass counts the labels that are drawn inside it. Tags use nodes, treemaps use areas.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taxonomy.codec import Stored, decode, encode
from taxonomy.errors import BadGraph, BadLabels, DamagedTaxonomy, UnknownSynset
from taxonomy.synset import Synset
from taxonomy.tree import as_parents, label_sets

MAX_COLUMNS = 32_767  # a column's ledger id is a smallint

Ints = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Taxonomy:
    """A rooted acyclic graph of synsets over a list of labels; its arrays are read-only.

    Make one with `load`, or with `taxonomy.build.from_hypernyms`.
    """

    name: str
    labels: tuple[str, ...]  # synset id by class
    synsets: tuple[Synset, ...]  # by node
    parents: tuple[tuple[int, ...], ...]  # by node: the nodes of all its direct hypernyms
    display_parent: Ints  # by node: the one parent under which it is drawn; -1 for the root
    shown_as: Ints  # by node: the node that stands for all nodes with the same labels
    label_nodes: Ints  # by class: the label's node
    version: str = ""  # as in `taxonomy.codec.Stored`

    @classmethod
    def from_stored(cls, stored: Stored) -> "Taxonomy":
        """The taxonomy that a file holds.

        Raises:
            BadGraph: the nodes are not one rooted acyclic graph, root first, with at most 32,767 columns.
            BadLabels: a label is missing among the nodes, or comes twice.
        """
        index = {synset.wnid: node for node, synset in enumerate(stored.synsets)}
        if len(set(stored.labels)) != len(stored.labels) or not index.keys() >= set(stored.labels):
            raise BadLabels(f"The labels of {stored.name} are not distinct synsets of its graph; build it again.")
        taxonomy = cls(
            name=stored.name,
            labels=stored.labels,
            synsets=stored.synsets,
            parents=stored.parents,
            display_parent=_frozen(stored.display_parent),
            shown_as=_frozen(stored.shown_as),
            label_nodes=_frozen([index[wnid] for wnid in stored.labels]),
            version=stored.version,
        )
        taxonomy._check()
        return taxonomy

    def __repr__(self) -> str:
        return f"<Taxonomy {self.name}: {self.classes} labels, {self.nodes} synsets, {self.columns} columns>"

    def _check(self) -> None:
        ordered = all(above and max(above) < node for node, above in enumerate(self.parents) if node)
        if not self.parents or self.parents[0] or not ordered:
            raise BadGraph(f"The nodes of {self.name} are not ordered from one root downward; build it again.")
        if any(self.display_parent[node] not in above for node, above in enumerate(self.parents) if node):
            raise BadGraph(f"In {self.name} a display parent is no parent; build it again.")
        if not all(self.label_sets):
            raise BadGraph(f"In {self.name} a synset has no label under it; build it again.")
        if self.columns > MAX_COLUMNS:
            raise BadGraph(f"{self.name} has {self.columns} columns, more than {MAX_COLUMNS}; use fewer labels.")

    def stored(self) -> Stored:
        """This taxonomy as a file holds it."""
        return Stored(
            name=self.name,
            labels=self.labels,
            synsets=self.synsets,
            parents=self.parents,
            display_parent=tuple(self.display_parent.tolist()),
            shown_as=tuple(self.shown_as.tolist()),
            version=self.version,
        )

    @cached_property
    def sha256(self) -> str:
        """Hexadecimal checksum of the stored form: the taxonomy's version. Other names make no other one."""
        return self.version or hashlib.sha256(encode(self.stored())).hexdigest()

    # ---- sizes and lookup

    @property
    def classes(self) -> int:
        """L, the number of labels."""
        return len(self.labels)

    @property
    def nodes(self) -> int:
        """V, the number of synsets."""
        return len(self.synsets)

    @property
    def columns(self) -> int:
        """C, the number of synsets and area-only columns."""
        return self.nodes + len(self.areas)

    @cached_property
    def _by_wnid(self) -> dict[str, int]:
        return {synset.wnid: node for node, synset in enumerate(self.synsets)}

    @cached_property
    def _by_lemma(self) -> dict[str, tuple[int, ...]]:
        found: defaultdict[str, list[int]] = defaultdict(list)
        for node, synset in enumerate(self.synsets):
            for key in {_key(lemma) for lemma in synset.lemmas}:
                found[key].append(node)
        return {key: tuple(nodes) for key, nodes in found.items()}

    def node(self, wnid: str) -> int:
        """The node of a synset id such as n02084071.

        Raises:
            UnknownSynset: this taxonomy does not have it.
        """
        try:
            return self._by_wnid[wnid]
        except KeyError:
            raise UnknownSynset(f"{self.name} has no synset {wnid}; look it up by name.") from None

    @cached_property
    def wnid_rank(self) -> Ints:
        """By node: its place in the order of synset ids, the last word in every tie."""
        rank = np.empty(self.nodes, dtype=np.int32)
        rank[sorted(range(self.nodes), key=lambda node: self.synsets[node].wnid)] = np.arange(self.nodes)
        return _frozen(rank)

    def find(self, name: str) -> tuple[int, ...]:
        """All senses of a word: every node with that lemma, root side first. Case, spaces and underscores are alike."""
        return self._by_lemma.get(_key(name), ())

    # ---- the graph

    @cached_property
    def label_sets(self) -> tuple[frozenset[int], ...]:
        """By node: the classes at or under it, along any path."""
        return tuple(label_sets(self.parents, self.label_nodes.tolist()))

    @cached_property
    def leaf_count(self) -> Ints:
        """By node: how many distinct labels it holds."""
        return _frozen([len(labels) for labels in self.label_sets])

    @cached_property
    def bits(self) -> NDArray[np.float64]:
        """By node: its information, log2(L / leaf_count); 0 at the root."""
        bits = np.log2(self.classes / self.leaf_count.astype(np.float64))
        bits.setflags(write=False)
        return bits

    @cached_property
    def distances(self) -> tuple[dict[int, int], ...]:
        """By node: its ancestors and the fewest edges up to each, itself (0) included."""
        found: list[dict[int, int]] = []
        for node, above in enumerate(self.parents):
            reach = {node: 0}
            for parent in above:
                for ancestor, steps in found[parent].items():
                    reach[ancestor] = min(steps + 1, reach.get(ancestor, steps + 1))
            found.append(reach)
        return tuple(found)

    @cached_property
    def closure(self) -> Ints:
        """[N, 3]: (ancestor, descendant, fewest edges between), itself (0) included, in order of the first two."""
        rows = [(above, node, steps) for node, reach in enumerate(self.distances) for above, steps in reach.items()]
        return _frozen(sorted(rows))

    def ancestors(self, node: int) -> tuple[int, ...]:
        """Every node above this one along any path, root first, without itself."""
        return tuple(sorted(above for above in self.distances[node] if above != node))

    def is_under(self, node: int, above: int) -> bool:
        """Whether `node` is `above` or lies under it along any path."""
        return above in self.distances[node]

    # ---- the display tree

    @cached_property
    def depth(self) -> Ints:
        """By node: the edges up to the root along the display tree."""
        depth = [0] * self.nodes
        for node, parent in enumerate(self.display_parent.tolist()):
            depth[node] = depth[parent] + 1 if parent >= 0 else 0
        return _frozen(depth)

    @cached_property
    def display_children(self) -> tuple[tuple[int, ...], ...]:
        """By node: the nodes drawn directly inside it."""
        children: list[list[int]] = [[] for _ in self.synsets]
        for node, parent in enumerate(self.display_parent.tolist()):
            if parent >= 0:
                children[parent].append(node)
        return tuple(tuple(inside) for inside in children)

    @cached_property
    def drawn_sets(self) -> tuple[frozenset[int], ...]:
        """By node: the classes drawn inside it, over the display tree; empty where all are drawn elsewhere."""
        return tuple(label_sets(as_parents(self.display_parent.tolist()), self.label_nodes.tolist()))

    @cached_property
    def areas(self) -> Ints:
        """By area-only column, from column V on: the node whose area it is."""
        pairs = zip(self.label_sets, self.drawn_sets, strict=True)
        return _frozen([node for node, (held, drawn) in enumerate(pairs) if held != drawn])

    @cached_property
    def column_node(self) -> Ints:
        """By column: the node it is about."""
        return _frozen([*range(self.nodes), *self.areas.tolist()])

    @cached_property
    def area_column(self) -> Ints:
        """By node: the column whose mass is its area in a treemap; its own column unless it has an area-only one."""
        column = np.arange(self.nodes, dtype=np.int32)
        column[self.areas] = np.arange(self.nodes, self.columns, dtype=np.int32)
        column.setflags(write=False)
        return column

    @cached_property
    def column_sets(self) -> tuple[frozenset[int], ...]:
        """By column: the classes that count towards its mass."""
        return self.label_sets + tuple(self.drawn_sets[node] for node in self.areas.tolist())

    @cached_property
    def membership(self) -> NDArray[np.float32]:
        """[L, C], 0 or 1: whether a class counts towards a column. Masses are probabilities times this matrix."""
        matrix = np.zeros((self.classes, self.columns), dtype=np.float32)
        for column, labels in enumerate(self.column_sets):
            matrix[list(labels), column] = 1
        matrix.setflags(write=False)
        return matrix


@lru_cache(maxsize=8)
def load(name: str = "imagenet-1k", folder: Path | None = None) -> Taxonomy:
    """The stored taxonomy of that name: one that comes with the package, or one that was built into `folder`.

    Raises:
        DamagedTaxonomy: it is not there, cannot be read, or its bytes are not those that were built.
    """
    place = files("taxonomy") / "data" if folder is None else folder
    try:
        data = (place / f"{name}.json").read_bytes()
        expected = (place / f"{name}.sha256").read_text(encoding="ascii").split()[0]
    except (OSError, UnicodeDecodeError, IndexError) as error:
        raise DamagedTaxonomy(f"Taxonomy {name} or its checksum cannot be read in {place}; build it first.") from error
    if hashlib.sha256(data).hexdigest() != expected:
        raise DamagedTaxonomy(f"Taxonomy {name} in {place} is not the one that was built (checksum); build it again.")
    return Taxonomy.from_stored(decode(data))


def _key(lemma: str) -> str:
    return " ".join(lemma.replace("_", " ").split()).casefold()


def _frozen(values: object) -> Ints:
    array = np.array(values, dtype=np.int32)
    array.setflags(write=False)
    return array
