"""Check the prose of Python, Markdown and configuration files: words, spelling, docstring openings, numbers.

`python -m tools.check_language [PATH …]` prints one `path:line: message` for each finding and exits with 1 if
there is any. Without a path it checks every file that git tracks or would track. Code in backticks, code blocks,
identifiers and link targets are not prose.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

BANNED = {
    "beside": "next to, or compared with",
    "anew": "again",
    "told|tells?": "say, show or report",
    "wished": "requested",
    "(?:come|comes|came) to be": "be created",
    "of (?:its|their|his) own": "separate, or own",
    "the word of": "the report of",
    "(?:goes|go) by": "depends on, or is identified by",
    "stands": "is",
    "at hand": "available",
    "forth": "another wording",
    "what was": "a noun",
    "whoever": "the client that",
}
BRITISH = {
    r"((?:re|un|dis|multi)?(?:col|behavi|neighb|fav|hon|flav|harb|lab|hum|rum|vap))our(\w*)": r"\1or\2",
    r"(gr)ey(\w*)": r"\1ay\2",
    r"((?:re|de)?cent)re(s|d)?": r"\1er\2",
    r"(catalog)ue(s|d)?": r"\1\2",
    r"(art)efact(\w*)": r"\1ifact\2",
    "whilst": "while",
    r"(licen|defen|offen|preten)ce(s|d)?": r"\1se\2",
    r"((?:un|re)?(?:label|model|travel|signal|total|channel|tunnel|level))l(ed|ing|er)": r"\1\2",
    r"((?:an|cat)al|paral)ys(e|ed|er|ing)": r"\1yz\2",
    r"(fulfi|enro)l(s|ment)?": r"\1ll\2",
    r"(program)me(s)?": r"\1\2",
    r"((?:un|re|de|pre|over|non)?(?:optim|normal|initial|serial|quant|recogn|organ|summar|synchron|real|minim|maxim"
    r"|visual|general|special|token|author|custom|util|parametr|vector|random|standard|regular|stabil|categor"
    r"|character|emphas|memor|penal|prior|final|personal|local|central|formal|crystal|mobil|harmon|discret"
    r"|factor|polar|orthogonal|orthonormal|binar|material|sanit|scrutin|capital|apolog))"
    r"is(e|es|ed|er|ers|ing|ation|ations|able)": r"\1iz\2",
}
PHRASES = [
    (re.compile(rf"\b(?:{word})\b".replace(" ", r"\s+"), re.IGNORECASE), use) for word, use in BANNED.items()
]
SPELLINGS = [
    (re.compile(rf"\b{british}\b", re.IGNORECASE), american) for british, american in BRITISH.items()
]
SHORT_NUMBER = re.compile(r"(?<![\w.)\]}/*%\\])\.\d+(?!\w|\.\d)")
OLD_REFUSAL = re.compile(r";\s*allowed\b")
NOT_PROSE = re.compile(
    r"(``?)[^`]+?\1(?!`)|\]\([^)]*\)|https?://\S+|<!--.*?-->|</?[a-z][^<>]*>|\bask(?:/| and |-and-)tell\b|\btell\(",
    re.DOTALL,
)
FENCE = re.compile(r"^( *)(`{3,}|~{3,})[^\n]*\n.*?^ *\2`*~*[ \t]*$", re.DOTALL | re.MULTILINE)
ODD_OPENING = re.compile(r"(Nothing,? (?:if|where|when|unless)\b|Nothing[:;.]|What\b)")
ENTRY = re.compile(r"^[-*] .*(?:\n(?![-*#\n]).+)*", re.MULTILINE)
MAX_ENTRY_WORDS = 25

MESSAGE_CALLS = {
    "debug",
    "info",
    "warning",
    "error",
    "exception",
    "critical",
    "warn",
    "echo",
    "secho",
    "print",
    "say",
}
MESSAGE_ARGUMENTS = {
    "help",
    "description",
    "detail",
    "message",
    "reason",
    "hint",
    "title",
    "epilog",
    "summary",
}
COMMENTED = (
    "*.toml",
    "*.yml",
    "*.yaml",
    "*.sh",
    "Makefile",
    "*Dockerfile",
    "constraints.txt",
    "requirements*.txt",
)


@dataclass(frozen=True)
class Prose:
    """A piece of text that people read, and the line of the file where it starts."""

    line: int
    text: str

    def at(self, offset: int) -> int:
        """Return the line of a character of the text."""
        return self.line + self.text.count("\n", 0, offset)


def check_file(path: Path) -> list[str]:
    """Validate the prose of one file; return `path:line: message` for each finding."""
    if path.suffix not in {".py", ".md"} and not any(fnmatch(path.name, name) for name in COMMENTED):
        return []
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        found = list(_markdown(source, changelog=path.name == "CHANGELOG.md"))
    elif path.suffix == ".py":
        found = list(_python(source))
    else:
        found = [one for prose in _hash_comments(source) for one in _words(prose)]
    return [f"{path}:{line}: {message}" for line, message in sorted(set(found))]


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match.group())


def _words(prose: Prose, *, numbers: bool = True) -> Iterator[tuple[int, str]]:
    text = NOT_PROSE.sub(_blank, prose.text)
    for pattern, use in PHRASES:
        for match in pattern.finditer(text):
            found = " ".join(match.group().split())
            yield prose.at(match.start()), f"'{found}': use {use}"
    for pattern, american in SPELLINGS:
        for match in pattern.finditer(text):
            yield prose.at(match.start()), f"'{match.group()}': use '{match.expand(american)}'"
    if numbers:
        for match in SHORT_NUMBER.finditer(text):
            yield prose.at(match.start()), f"'{match.group()}': write '0{match.group()}'"


def _markdown(source: str, *, changelog: bool) -> Iterator[tuple[int, str]]:
    text = FENCE.sub(_blank, source)
    yield from _words(Prose(1, text), numbers=False)
    yield from _words(Prose(1, re.sub(r"^ *\|.*$", _blank, text, flags=re.MULTILINE)))
    for match in ENTRY.finditer(text) if changelog else ():
        words = len(match.group().split()) - 1
        if words > MAX_ENTRY_WORDS:
            yield Prose(1, text).at(match.start()), f"entry of {words} words; write at most {MAX_ENTRY_WORDS}"


def _python(source: str) -> Iterator[tuple[int, str]]:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstring(node)
        elif isinstance(node, ast.Call):
            for text in _messages(node):
                yield from _words(text)
                if re.search(r"\bcame\b", text.text):
                    yield text.line, "'came': write '<field>: got <value>; expected <what is allowed>'"
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and OLD_REFUSAL.search(node.value)
        ):
            yield (
                node.lineno,
                "'allowed' after a semicolon: write '<field>: got <value>; expected <what is allowed>'",
            )
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from _words(Prose(token.start[0], token.string.lstrip("#! ")))


def _docstring(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> Iterator[tuple[int, str]]:
    first = node.body[0] if node.body else None
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
        return
    text = first.value.value
    if not isinstance(text, str):
        return
    yield from _words(Prose(first.lineno, text))
    if opening := ODD_OPENING.match(text.lstrip()):
        yield (
            first.lineno,
            f"docstring starts with '{opening.group()}': start with an imperative or a noun phrase",
        )
    if re.match(r"_?check_", getattr(node, "name", "")) and not text.lstrip().startswith("Validate"):
        yield first.lineno, "docstring of a check function: start with 'Validate'"


def _messages(call: ast.Call) -> Iterator[Prose]:
    """Yield the strings of a call that users or operators read: errors, log events, help texts."""
    name = str(getattr(call.func, "attr", None) or getattr(call.func, "id", ""))
    shown = [argument.value for argument in call.keywords if argument.arg in MESSAGE_ARGUMENTS]
    if name in MESSAGE_CALLS or name.endswith(("Error", "Warning")):
        shown += call.args
    for value in shown:
        for part in ast.walk(value):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield Prose(part.lineno, part.value.replace("\n", " "))


def _hash_comments(source: str) -> Iterator[Prose]:
    for number, line in enumerate(source.splitlines(), 1):
        if comment := re.search(r"(?:^|\s)#\s?(.*)", line):
            yield Prose(number, comment.group(1))


def files_of(paths: list[str]) -> list[Path]:
    """Return the files under the paths that git tracks or would track; all of the current folder without paths."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths],
        check=True,
        capture_output=True,
        text=True,
    )
    return sorted({Path(name) for name in listed.stdout.split("\0") if name and Path(name).is_file()})


def main(arguments: list[str]) -> int:
    """Print the findings of the given paths; return the exit status."""
    findings = [finding for path in files_of(arguments) for finding in check_file(path)]
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} findings; the rules of language are in CONTRIBUTING.md", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
