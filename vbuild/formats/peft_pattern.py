"""The regular expressions of an adapter's ``alpha_pattern``, in bounded time.

- PEFT takes a key for a regular expression and asks whether a module's name, or what follows a dot
  in it, matches all of it; the first key that does so wins.
- Python's engine may take for ever on a stranger's expression. Nearly all are plain names, which
  are compared; the others are matched by a set of states that moves over the name, in a time that
  the product of the two lengths bounds.
- Known: characters, ``.``, ``\\d``, ``\\w``, escaped punctuation, sets, groups, ``|``, ``*``,
  ``+``, ``?``, ``^`` and ``$``, for names in ASCII. Anything else is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Pattern", "PatternError"]

MAX_LENGTH = 1000
"""Characters of an expression."""

MAX_DEPTH = 20
"""Groups in groups."""

_PLAIN = re.compile(r"[A-Za-z0-9_.-]*")
_DIGITS = frozenset("0123456789")
_WORD = _DIGITS | frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_CLASSES = {"d": _DIGITS, "w": _WORD}


class PatternError(ValueError):
    """An expression that is not known, or not one at all."""


@dataclass(frozen=True, slots=True)
class _Set:
    """Characters that a step accepts, or with ``negated`` does not."""

    chars: frozenset[str]
    negated: bool = False

    def accepts(self, char: str) -> bool:
        return (char in self.chars) is not self.negated


_ANY = _Set(frozenset("\n"), negated=True)


@dataclass(slots=True)
class _State:
    """``edges`` take a character; ``free`` ones take none, and hold where their condition does."""

    edges: list[tuple[_Set, int]] = field(default_factory=list)
    free: list[tuple[str, int]] = field(default_factory=list)  # "", "^" or "$", and the target


_Fragment = tuple[int, int]  # first and last state


class Pattern:
    """A compiled key of ``alpha_pattern``."""

    def __init__(self, text: str) -> None:
        """Raises PatternError for what is not known."""
        if len(text) > MAX_LENGTH:
            raise PatternError(f"longer than {MAX_LENGTH} characters")
        self.is_plain = _PLAIN.fullmatch(text) is not None
        self._text = text
        self._at = 0
        self._states: list[_State] = []
        if self.is_plain:
            return
        self._first, self._last = self._alternatives(0)
        if self._at < len(text):
            raise PatternError("a parenthesis is closed that is not open")

    def steps(self, names: int, characters: int) -> int:
        """The most steps that it takes to match so many names with so many characters in all.

        A step is the comparison of two characters; a state that is visited takes as long as four.
        """
        if self.is_plain:
            return (len(self._text) + 1) * names
        return 4 * len(self._states) * (characters + names)

    def matches(self, name: str) -> bool:
        """Whether ``name``, or what follows one of its dots, is all that the pattern says.

        PatternError for a name that is not ASCII: what a class has beyond it, nobody wants to know.
        """
        if self.is_plain:
            begin = len(name) - len(self._text)
            whole = begin == 0 or (begin > 0 and name[begin - 1] == ".")
            return whole and all(
                p in (".", c) for p, c in zip(self._text, name[begin:], strict=True)
            )
        if not name.isascii():
            raise PatternError("a name that is not ASCII")
        now = self._closed({self._first}, name, 0)
        for at, char in enumerate(name, 1):
            following = {to for i in now for accepts, to in self._states[i].edges
                         if accepts.accepts(char)}  # fmt: skip
            if char == ".":
                following.add(self._first)
            now = self._closed(following, name, at)
        return self._last in now

    def _closed(self, states: set[int], name: str, at: int) -> set[int]:
        """``states`` and what they lead to without a character."""
        found, todo = set(states), list(states)
        while todo:
            for condition, to in self._states[todo.pop()].free:
                holds = not condition or at == (0 if condition == "^" else len(name))
                if holds and to not in found:
                    found.add(to)
                    todo.append(to)
        return found

    # ---- compiling ----

    def _state(self) -> int:
        self._states.append(_State())
        return len(self._states) - 1

    def _fragment(self, link: Callable[[int, int], None]) -> _Fragment:
        first, last = self._state(), self._state()
        link(first, last)
        return first, last

    def _free(self, condition: str = "") -> Callable[[int, int], None]:
        return lambda first, last: self._states[first].free.append((condition, last))

    def _taking(self, chars: _Set) -> Callable[[int, int], None]:
        return lambda first, last: self._states[first].edges.append((chars, last))

    def _alternatives(self, depth: int) -> _Fragment:
        if depth > MAX_DEPTH:
            raise PatternError("too many groups in groups")
        first, last = self._state(), self._state()
        while True:
            begin, end = self._sequence(depth)
            self._free()(first, begin)
            self._free()(end, last)
            if not self._next_is("|"):
                return first, last

    def _sequence(self, depth: int) -> _Fragment:
        first = last = self._state()
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            begin, end = self._repeated(self._atom(depth))
            self._free()(last, begin)
            last = end
        return first, last

    def _repeated(self, atom: _Fragment) -> _Fragment:
        begin, end = atom
        count = next((c for c in "*+?" if self._next_is(c)), None)
        if count is None:
            return atom
        if self._at < len(self._text) and self._text[self._at] in "*+?":
            raise PatternError("a repetition is repeated")
        first, last = self._state(), self._state()
        self._free()(first, begin)
        self._free()(end, last)
        if count in "*+":
            self._free()(end, begin)
        if count in "*?":
            self._free()(first, last)
        return first, last

    def _atom(self, depth: int) -> _Fragment:
        char = self._take()
        if char == "(":
            if self._next_is("?") and not self._next_is(":"):
                raise PatternError("a group with a question mark")
            fragment = self._alternatives(depth + 1)
            if not self._next_is(")"):
                raise PatternError("a parenthesis is not closed")
            return fragment
        if char in "^$":
            return self._fragment(self._free(char))
        if char == ".":
            return self._fragment(self._taking(_ANY))
        if char == "[":
            return self._fragment(self._taking(self._set()))
        if char in "*+?{}]":
            raise PatternError(f"a bare {char}")
        chars = self._escape() if char == "\\" else frozenset(char)
        return self._fragment(self._taking(_Set(chars)))

    def _set(self) -> _Set:
        negated = self._next_is("^")
        chars: set[str] = set()
        while True:
            char = self._take()
            if char == "]" and chars:
                return _Set(frozenset(chars), negated)
            if char in "[]&~|":
                raise PatternError("a set that is not plain")
            if char == "\\":
                chars |= self._escape()
            elif self._text[self._at : self._at + 1] == "-" and not self._text.startswith(
                "-]", self._at
            ):
                self._take()
                last = self._take()
                if not ("a" <= char <= last <= "z" or "A" <= char <= last <= "Z"
                        or "0" <= char <= last <= "9"):  # fmt: skip
                    raise PatternError("a range in a set that is not plain")
                chars |= {chr(c) for c in range(ord(char), ord(last) + 1)}
            else:
                chars.add(char)

    def _escape(self) -> frozenset[str]:
        char = self._take()
        if char in _CLASSES:
            return _CLASSES[char]
        if char.isalnum() or not char.isascii():
            raise PatternError(f"the escape \\{char}")
        return frozenset(char)

    def _take(self) -> str:
        if self._at >= len(self._text):
            raise PatternError("it ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _next_is(self, char: str) -> bool:
        found = self._at < len(self._text) and self._text[self._at] == char
        self._at += found
        return found
