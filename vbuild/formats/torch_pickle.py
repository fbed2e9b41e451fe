"""A small machine that reads a state dict's pickle and runs nothing.

- An opcode outside the list that PyTorch's state dicts use is refused before its argument is even
  decoded; a name outside `torch_names` is refused where it is mentioned. No name is resolved.
- `pickletools.genops` is not used to decode: it decodes arguments of every opcode before its
  caller can refuse one, and it interprets backslashes in the names of GLOBAL where pickle does
  not. Only its table of opcode names serves here, for messages.
- Bounds: 64 MiB, 10^6 opcodes, integers of 16 bytes, memo slots below 10^6. No opcode costs more
  than the bytes and stack entries that it consumes, and nothing recurses.
- The result is a neutral tree (`torch_tree`), which may be nested, shared or cyclic at will.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass

from vbuild.errors import InvalidInput
from vbuild.formats.torch_calls import Problem, Views, call, persistent
from vbuild.formats.torch_names import is_allowed, is_unsupported_type, why_refused
from vbuild.formats.torch_source import Source
from vbuild.formats.torch_tree import Mapping, Name, Node, Root, describe
from vbuild.strict_json import quoted

__all__ = ["OPCODE_LIMIT", "Pickle", "load"]

OPCODE_LIMIT = 1_000_000
"""The most opcodes that are interpreted, and the bound of memo slots (formats.md)."""

_LONG_LIMIT = 16
# Not every key that Python can hash: these are what checkpoints have, down to their metadata.
_KEY_TYPES = (str, int, float, type(None))
_NAMES = {opcode.code.encode("latin-1"): opcode.name for opcode in pickletools.opcodes}


@dataclass(frozen=True, slots=True)
class Pickle:
    """What a pickle says: its object, and the root storages it mentions, by key."""

    root: Node
    storages: dict[str, Root]


def load(source: Source, *, legacy: bool = False) -> Pickle:
    """Interpret one pickle from ``source``, which is left just behind it.

    ``legacy`` selects what a storage's persistent id looks like: legacy files add a view.
    InvalidInput: ``pickle-forbidden-global``, ``pickle-forbidden-opcode``, ``pickle-malformed``,
    ``pickle-too-large``, ``torch-unsupported-dtype``, ``torch-unsupported-tensor``,
    ``torch-truncated``; every message gives the opcode's offset in the file.
    """
    return _Machine(source, legacy).run()


class _Machine:
    """The stack, the marks and the memo of one run."""

    def __init__(self, source: Source, legacy: bool) -> None:
        self.source = source
        self.legacy = legacy
        self.stack: list[Node] = []
        self.outer: list[list[Node]] = []
        self.memo: dict[int, Node] = {}
        self.storages: dict[str, Root] = {}
        self.views: Views = {}
        self.code = b""
        self.at = source.position

    def run(self) -> Pickle:
        """Interpret opcodes up to STOP."""
        self.at = self.source.position
        start = self.source.take(2)
        if start != b"\x80\x02":
            again = "save the state dict again, with torch.save's own pickle_protocol"
            raise self.error(
                "pickle-malformed",
                "the pickle does not start with protocol 2",
                hint=again if start[0] == 0x80 else None,
            )
        for _ in range(OPCODE_LIMIT):
            self.at = self.source.position
            self.code = self.source.take(1)
            if self.code == b".":
                return self.stop()
            step = _STEPS.get(self.code)
            if step is None:
                raise self.forbidden()
            try:
                step(self)
            except Problem as problem:
                raise self.error(problem.code, problem.what, hint=problem.hint) from None
        raise self.error("pickle-too-large", f"the pickle has more than {OPCODE_LIMIT} opcodes")

    def stop(self) -> Pickle:
        """The result, once STOP is reached."""
        root = self.pop()
        if self.stack or self.outer:
            raise self.error("pickle-malformed", "STOP leaves values on the stack")
        return Pickle(root, self.storages)

    def error(self, code: str, what: str, *, hint: str | None = None) -> InvalidInput:
        """An error at the current opcode."""
        return InvalidInput(code, f"{what} (byte {self.at})", where=self.source.name, hint=hint)

    def forbidden(self) -> InvalidInput:
        """The error for an opcode outside the list; it names what would have been called."""
        name = _NAMES.get(self.code)
        if name is None:
            return self.error("pickle-malformed", f"unknown opcode 0x{self.code.hex()}")
        if name == "INST":
            return self.forbidden_name(self.name())
        if name == "STACK_GLOBAL" and len(self.stack) >= 2:
            module, attribute = self.stack[-2:]
            if isinstance(module, str) and isinstance(attribute, str):
                return self.forbidden_name(f"{module}.{attribute}")
        return self.error(
            "pickle-forbidden-opcode",
            f"the pickle uses opcode {name}, which no state dict needs; nothing was run",
            hint=why_refused(""),
        )

    def forbidden_name(self, name: str) -> InvalidInput:
        """The error for a name outside the list."""
        if is_unsupported_type(name):
            what = f"the element type {name} is not supported"
            return self.error("torch-unsupported-dtype", what)
        return self.error(
            "pickle-forbidden-global",
            f"the pickle names {quoted(name)}, which no state dict of plain tensors needs; "
            "nothing was run",
            hint=why_refused(name),
        )

    def malformed(self, what: str) -> InvalidInput:
        """The error for an opcode that its operands do not fit."""
        return self.error("pickle-malformed", f"{_NAMES[self.code]}: {what}")

    def pop(self) -> Node:
        """The topmost value above the last mark."""
        if not self.stack:
            raise self.malformed("the stack is empty")
        return self.stack.pop()

    def pop_mark(self) -> list[Node]:
        """The values above the last mark, which is removed."""
        if not self.outer:
            raise self.malformed("there is no mark")
        items, self.stack = self.stack, self.outer.pop()
        return items

    def number(self, form: str) -> int:
        """The opcode's argument, in the form of `struct`."""
        value: int = struct.unpack(form, self.source.take(struct.calcsize(form)))[0]
        return value

    def name(self) -> str:
        """The two lines of a name."""
        module, attribute = self.source.line(), self.source.line()
        if module is None or attribute is None:
            raise self.malformed("a name does not end")
        try:
            return f"{module.decode('utf-8')}.{attribute.decode('utf-8')}"
        except UnicodeDecodeError:
            raise self.malformed("a name is not UTF-8") from None

    # One method per opcode, or per family of them.

    def do_global(self) -> None:
        name = self.name()
        if not is_allowed(name):
            raise self.forbidden_name(name)
        self.stack.append(Name(name))

    def do_unicode(self) -> None:
        data = self.source.take(self.number("<I"))
        try:
            self.stack.append(data.decode("utf-8"))
        except UnicodeDecodeError:
            raise self.malformed("the string is not UTF-8") from None

    def do_long(self) -> None:
        size = self.number("<B")
        if size > _LONG_LIMIT:
            raise self.malformed(f"an integer of {size} bytes is beyond all use")
        self.stack.append(int.from_bytes(self.source.take(size), "little", signed=True))

    def do_float(self) -> None:
        self.stack.append(struct.unpack(">d", self.source.take(8))[0])

    def put(self, form: str) -> None:
        slot = self.number(form)
        if slot >= OPCODE_LIMIT:
            raise self.malformed(f"memo slot {slot} is beyond all use")
        if not self.stack:
            raise self.malformed("the stack is empty")
        self.memo[slot] = self.stack[-1]

    def get(self, form: str) -> None:
        slot = self.number(form)
        if slot not in self.memo:
            raise self.malformed(f"memo slot {slot} is empty")
        self.stack.append(self.memo[slot])

    def do_mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def do_tuple(self) -> None:
        items = self.pop_mark()
        self.stack.append(tuple(items))

    def short_tuple(self, n: int) -> None:
        items = [self.pop() for _ in range(n)]
        self.stack.append(tuple(reversed(items)))

    def extend(self, items: list[Node]) -> None:
        target = self.stack[-1] if self.stack else None
        if not isinstance(target, list):
            raise self.malformed(f"the target is {describe(target)}, not a list")
        target.extend(items)

    def do_append(self) -> None:
        self.extend([self.pop()])

    def do_appends(self) -> None:
        self.extend(self.pop_mark())

    def set_items(self, items: list[Node]) -> None:
        target = self.stack[-1] if self.stack else None
        if not isinstance(target, Mapping):
            raise self.malformed(f"the target is {describe(target)}, not a dict")
        if len(items) % 2:
            raise self.malformed("a key has no value")
        for key in items[::2]:
            if not isinstance(key, _KEY_TYPES):
                raise self.malformed(f"{describe(key)} as a key")
        target.items.extend(zip(items[::2], items[1::2], strict=True))

    def do_setitem(self) -> None:
        value = self.pop()
        self.set_items([self.pop(), value])

    def do_setitems(self) -> None:
        self.set_items(self.pop_mark())

    def do_reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        self.stack.append(call(function, arguments))

    def do_build(self) -> None:
        # An OrderedDict's state is its `_metadata`, the versions of modules: not tensors.
        state = self.pop()
        target = self.stack[-1] if self.stack else None
        if not (isinstance(target, Mapping) and target.ordered and isinstance(state, Mapping)):
            raise self.malformed(f"{describe(target)} takes no state; nothing was run")

    def do_persistent(self) -> None:
        storage = persistent(self.pop(), self.storages, self.views, legacy=self.legacy)
        self.stack.append(storage)


_STEPS: dict[bytes, Callable[[_Machine], None]] = {
    b"(": _Machine.do_mark,
    b")": lambda m: m.stack.append(()),
    b"G": _Machine.do_float,
    b"J": lambda m: m.stack.append(m.number("<i")),
    b"K": lambda m: m.stack.append(m.number("<B")),
    b"M": lambda m: m.stack.append(m.number("<H")),
    b"N": lambda m: m.stack.append(None),
    b"Q": _Machine.do_persistent,
    b"R": _Machine.do_reduce,
    b"X": _Machine.do_unicode,
    b"]": lambda m: m.stack.append([]),
    b"a": _Machine.do_append,
    b"b": _Machine.do_build,
    b"c": _Machine.do_global,
    b"e": _Machine.do_appends,
    b"h": lambda m: m.get("<B"),
    b"j": lambda m: m.get("<I"),
    b"q": lambda m: m.put("<B"),
    b"r": lambda m: m.put("<I"),
    b"s": _Machine.do_setitem,
    b"t": _Machine.do_tuple,
    b"u": _Machine.do_setitems,
    b"}": lambda m: m.stack.append(Mapping(ordered=False)),
    b"\x85": lambda m: m.short_tuple(1),
    b"\x86": lambda m: m.short_tuple(2),
    b"\x87": lambda m: m.short_tuple(3),
    b"\x88": lambda m: m.stack.append(True),
    b"\x89": lambda m: m.stack.append(False),
    b"\x8a": _Machine.do_long,
}
