"""YAML with its line numbers: text -> nodes, with `${VAR}` put in. Everything beyond plain mappings, lists and scalars is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from penstock.config.errors import Place, Problems
from penstock.wire.secrets import mask_secrets

_VARIABLE = re.compile(r"\$(\$\{)|\$\{([^}\n]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_DEEPEST = 12
_MOST_NODES = 20_000


@dataclass(frozen=True, slots=True)
class Scalar:
    text: str
    """With its variables put in."""
    tag: str
    """YAML's type: `str`, `int`, `float`, `bool`, `null`, `timestamp`; always `str` from the environment and the command line."""
    line: int | None = None
    raw: str | None = None
    """As it was written, where variables were put in."""

    @property
    def shown(self) -> str:
        """The value for an error message: as written if variables were put in, and masked."""
        text = mask_secrets(self.raw if self.raw is not None else self.text)
        return repr(text if len(text) <= 60 else text[:60] + "...")


@dataclass(frozen=True, slots=True)
class Listing:
    items: tuple[Node, ...]
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Section:
    items: tuple[tuple[Scalar, Node], ...]
    """Keys in the file's order; none twice."""
    line: int | None = None


Node = Scalar | Listing | Section


def parse(text: str, environ: Mapping[str, str], file: str, problems: Problems) -> Section:
    """The file's mapping; empty where the file is. What cannot be read is in `problems`."""
    empty = Section((), 1)
    top = Place(file, None, "")
    try:
        root = yaml.SafeLoader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problems.add(Place(file, mark.line + 1 if mark is not None else None, ""), _explain(error))
        return empty
    except yaml.YAMLError as error:
        at: object = getattr(error, "position", None)  # of a ReaderError, in characters
        line = text.count("\n", 0, at) + 1 if isinstance(at, int) else None
        problems.add(Place(file, line, ""), "holds a character that YAML does not allow; is this a text file?")
        return empty
    except RecursionError:
        problems.add(top, "the file is nested too deeply")
        return empty
    if root is None:
        return empty
    try:
        node = _Reader(environ, file, problems).read(root, top, 0)
    except _TooMuch as error:
        problems.add(Place(file, error.line, ""), "the file is nested too deeply, or its aliases repeat too much")
        return empty
    if isinstance(node, Section):
        return node
    if not (isinstance(node, Scalar) and node.tag == "null"):
        problems.add(Place(file, 1, ""), "the file must be a mapping of keys to values, like 'listen: 127.0.0.1:4270'")
    return empty


def _explain(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "not valid YAML"
    if "'\\t'" in problem:
        return "a tab: YAML is indented with blanks"
    if "mapping values are not allowed" in problem:
        return "a second ':' in this line, or a wrong indentation; put a value that holds ': ' into quotes"
    if "could not find expected ':'" in problem:
        return "a key without ':' behind it"
    if "but found another document" in problem:
        return "a second document ('---'); write one"
    return f"not valid YAML: {mask_secrets(problem)}"


class _TooMuch(Exception):
    def __init__(self, line: int | None) -> None:
        self.line = line


class _Reader:
    """One walk over a composed tree. Aliases are followed, within a bound on depth and number of nodes."""

    def __init__(self, environ: Mapping[str, str], file: str, problems: Problems) -> None:
        self._environ = environ
        self._file = file
        self._problems = problems
        self._nodes = 0

    def read(self, node: yaml.Node, place: Place, depth: int) -> Node:
        line = node.start_mark.line + 1 if node.start_mark is not None else None
        here = Place(self._file, line, place.path)
        self._nodes += 1
        if depth > _DEEPEST or self._nodes > _MOST_NODES:
            raise _TooMuch(line)
        if isinstance(node, yaml.MappingNode):
            return self._section(node, here, depth)
        if isinstance(node, yaml.SequenceNode):
            items = tuple(self.read(child, here.below(f"[{index}]"), depth + 1) for index, child in enumerate(node.value))
            return Listing(items, line)
        return self._scalar(node, here)

    def _section(self, node: yaml.MappingNode, here: Place, depth: int) -> Section:
        items: list[tuple[Scalar, Node]] = []
        lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._problems.add(Place(self._file, line, here.path), "a key must be a word")
                continue
            key = Scalar(self._whole(str(key_node.value), Place(self._file, line, here.path)), "str", line)
            if key_node.tag == "tag:yaml.org,2002:merge":
                self._problems.add(Place(self._file, line, here.path), "merge keys ('<<') are not read; write the keys out")
                continue
            below = here.below(mask_secrets(key.text), line)
            if key.text in lines:
                self._problems.add(below, f"stands twice; line {lines[key.text]} has it too. Keep one")
                continue
            lines[key.text] = line
            items.append((key, self.read(value_node, below, depth + 1)))
        return Section(tuple(items), here.line)

    def _scalar(self, node: yaml.Node, here: Place) -> Scalar:
        text = self._whole(str(node.value), here)
        prefix, _, tag = str(node.tag).rpartition(":")
        if prefix != "tag:yaml.org,2002":
            self._problems.add(here, "YAML tags ('!...') are not read")
            return Scalar(text, "str", here.line)
        if tag != "str" or "${" not in text:
            return Scalar(text, tag, here.line)
        return Scalar(self._whole(self._put_in(text, here), here), "str", here.line, raw=text)

    def _whole(self, text: str, here: Place) -> str:
        """`text` without halves of characters, which are noted: neither a file, a database nor JSON takes them. (YAML spells them so: "\\ud83d".)"""
        if text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text):
            return text
        self._problems.add(here, "holds half a character (a surrogate, like \\ud83d, or bytes that are no UTF-8); write the whole one")
        return text.encode("utf-8", "replace").decode()

    def _put_in(self, text: str, here: Place) -> str:
        def value(found: re.Match[str]) -> str:
            escaped, name, closed = found.groups()
            if escaped:
                return "${"
            if not closed:
                self._problems.add(here, "'${' is never closed; write ${NAME}, or $${ for the characters '${'")
            elif not _NAME.match(name):
                self._problems.add(here, "between '${' and '}' stands the name of a variable and nothing else; write $${ for the characters '${'")
            elif name not in self._environ:
                self._problems.add(here, f"the variable {name} is not set; set it, or write the value here")
            else:
                return self._environ[name]
            return ""

        return _VARIABLE.sub(value, text)
