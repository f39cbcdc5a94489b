"""A small core with SparCE, simulated instruction by instruction: what proves the closed form.

Instructions go through five stages in order. Each takes a cycle, and more where

    ld             takes `load_cycles`; whoever reads its register next waits one cycle more
    mac            takes `mac_cycles`
    beq, bne       lose two cycles when taken, unless they close a counted loop, as hardware loops
                   and loop predictors do (CV32E40P user manual, pipeline and hardware loops)

and SparCE has four parts (Sen et al., arXiv 1711.06315; as in the RTL of Purdue SoCET's
RISCVBusiness until 2025 [reconstruction]):

    SpRF   a bit a register: it holds zero. x0 always does, no other does after a reset.
    SASA   a table of 16 regions, 4 rows of 4 ways, the least recently used gives way. A store to
           0x9000_0000 adds [31:16] word address of the instruction before the region, [15:11] and
           [10:6] two registers, [5] whether both or one must be zero, [4:0] instructions to skip. A
           store to the next word switches skipping off, or on again with 0.
    PSRU   where the instruction before a region is fetched and the condition holds, what follows is
           fetched from behind the region: skipped instructions cost nothing.
    CFID   not so if that instruction is a branch.

The condition sees what the instruction before that one has computed, not what it itself computes;
of a load it sees the value one instruction later, and takes the register for non-zero until then.
How registers in flight are treated in a pipeline of five stages is not public [reconstruction].
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, final

from penstock.hardware.sparse_loop import FILL, TAKEN

Value = float | tuple[float, ...]
"""What a register holds: a number, or one for each lane."""

Name = Literal["ld", "st", "mac", "add", "addi", "beq", "bne", "nop"]

REGIONS: Final = 0x9000_0000
"""Where a store adds a region to the table."""

SWITCH: Final = REGIONS + 4
"""Where a store switches skipping off (1) or on (0)."""

_ROWS: Final = 4
_WAYS: Final = 4
_ADDRESSES: Final = 1 << 16
"""Words from the start of memory in which regions can lie: 16 bits of their address are kept."""


@final
@dataclass(frozen=True, slots=True)
class Instruction:
    """One of eight; registers are numbers of 0 to 31, and register 0 is always 0.

    ld a, imm(b); st a, imm(b); mac a += b * c; add a = b + c; addi a = b + imm; beq, bne b, c, imm.
    """

    name: Name
    a: int = 0
    b: int = 0
    c: int = 0
    immediate: int = 0
    """Added, or the word address that a branch goes to; of any size."""
    lanes: int = 1
    """Words that a load reads."""
    counted: bool = False
    """Whether a branch closes a counted loop, which costs nothing extra."""

    @property
    def reads(self) -> tuple[int, ...]:
        """The registers whose values it needs."""
        if self.name == "mac":
            return (self.a, self.b, self.c)
        if self.name == "st":
            return (self.a, self.b)
        return {"nop": (), "ld": (self.b,), "addi": (self.b,)}.get(self.name, (self.b, self.c))

    @property
    def writes(self) -> int:
        """The register that it changes, 0 for none."""
        return self.a if self.name in ("ld", "mac", "add", "addi") else 0

    @property
    def branches(self) -> bool:
        """Whether it may go elsewhere."""
        return self.name in ("beq", "bne")


@final
@dataclass(frozen=True, slots=True)
class Region:
    """Instructions that need not be executed where registers are zero."""

    before: int
    """Word address of the instruction in front of it."""
    one: int
    other: int
    """The two registers asked; the same twice asks one."""
    both: bool
    """Whether both must be zero, or one is enough."""
    length: int
    """Instructions, at most 31."""

    @property
    def word(self) -> int:
        """What software stores to add it to the table."""
        return (
            self.before % _ADDRESSES << 16
            | self.one << 11
            | self.other << 6
            | self.both << 5
            | self.length
        )

    @staticmethod
    def of(word: int) -> "Region":
        """The region that a word describes.

        >>> region = Region(before=7, one=3, other=3, both=False, length=2)
        >>> Region.of(region.word) == region
        True
        """
        registers = word >> 11 & 31, word >> 6 & 31
        return Region(word >> 16 & 0xFFFF, *registers, bool(word >> 5 & 1), word & 31)


@final
class SkipTable:
    """The SASA table: which regions are known, each row from least to most recently used."""

    def __init__(self) -> None:
        self.enabled = True
        self._rows: list[list[Region]] = [[] for _ in range(_ROWS)]

    def add(self, region: Region) -> None:
        """Keep a region, in place of one with the same start or of the least recently used."""
        row = self._rows[region.before % _ROWS]
        others = [kept for kept in row if kept.before != region.before]
        row[:] = [*others[-(_WAYS - 1) :], region]

    def find(self, address: int) -> Region | None:
        """The region behind this instruction, if there is one; to find it is to use it."""
        if not self.enabled or address >= _ADDRESSES:
            return None
        row = self._rows[address % _ROWS]
        for place, kept in enumerate(row):
            if kept.before == address:
                row.append(row.pop(place))
                return kept
        return None


@final
class ZeroBits:
    """The SpRF: which registers are known to hold zero."""

    def __init__(self) -> None:
        self._zero = [True] + [False] * 31
        self._in_flight = 0

    def write(self, register: int, value: Value, *, loaded: bool) -> None:
        """Note what an instruction has written; 0 is no register, and holds nothing in flight."""
        self._in_flight = register if loaded else 0
        if register:
            self._zero[register] = is_zero(value)

    def known(self, register: int) -> bool:
        """Whether the next instruction but one may rely on this register being zero."""
        return self._zero[register] and (register == 0 or register != self._in_flight)


@final
@dataclass(slots=True)
class Outcome:
    """What a program left behind."""

    registers: list[Value]
    memory: dict[int, Value]
    cycles: Counter[Name] = field(default_factory=Counter)
    """By instruction, waits included; without those that fill the pipeline."""
    executed: Counter[Name] = field(default_factory=Counter)
    """Instructions, by name."""
    skipped: int = 0
    """Instructions that were never fetched."""

    @property
    def total(self) -> int:
        """Cycles from the first instruction fetched to the last one finished."""
        return FILL + self.cycles.total()


def is_zero(value: Value) -> bool:
    """Whether a register holds nothing but zeros; -0.0 is one."""
    return not any(value) if isinstance(value, tuple) else value == 0


def simulate(
    program: Sequence[Instruction],
    memory: Mapping[int, Value],
    *,
    mac_cycles: int,
    load_cycles: int = 1,
) -> Outcome:
    """Run a program from its first instruction until it leaves its end.

    Args:
        program: at word addresses from 0.
        memory: word address -> value; what is missing is 0.
        mac_cycles: of a multiply-accumulate.
        load_cycles: of a load.
    """
    done = Outcome([0] * 32, dict(memory))
    bits, table = ZeroBits(), SkipTable()
    longer = {"mac": mac_cycles - 1, "ld": load_cycles - 1}
    address = loaded = 0  # the register that the last instruction has loaded
    while address < len(program):
        ins = program[address]
        region = None if ins.branches else table.find(address)
        skips = region is not None and _holds(region, bits)
        waits = loaded != 0 and loaded in ins.reads
        target = _execute(ins, done, table)
        taken = target is not None and not ins.counted
        done.cycles[ins.name] += 1 + longer.get(ins.name, 0) + waits + TAKEN * taken
        done.executed[ins.name] += 1
        written = ins.writes
        loaded = written if ins.name == "ld" else 0
        bits.write(written, done.registers[written], loaded=ins.name == "ld")
        address = address + 1 if target is None else target
        if region is not None and skips:
            address += region.length
            done.skipped += region.length
    return done


def _holds(region: Region, bits: ZeroBits) -> bool:
    one, other = bits.known(region.one), bits.known(region.other)
    return (one and other) if region.both else (one or other)


def _execute(ins: Instruction, done: Outcome, table: SkipTable) -> int | None:
    """Change registers, memory or the table; the address of a branch that is taken."""
    held = done.registers
    a, b, c = held[ins.a], held[ins.b], held[ins.c]
    if ins.branches:
        same = is_zero(b) if c == 0 else b == c
        return ins.immediate if same == (ins.name == "beq") else None
    if ins.name == "st":
        _store(_number(b) + ins.immediate, a, done, table)
    elif ins.name == "ld":
        _set(held, ins.a, _load(_number(b) + ins.immediate, ins.lanes, done))
    elif ins.name == "mac":
        _set(held, ins.a, _multiply(a, b, c))
    elif ins.name == "add":
        _set(held, ins.a, _number(b) + _number(c))
    elif ins.name == "addi":
        _set(held, ins.a, _number(b) + ins.immediate)
    return None


def _store(address: float, value: Value, done: Outcome, table: SkipTable) -> None:
    if address == REGIONS:
        table.add(Region.of(int(_number(value))))
    elif address == SWITCH:
        table.enabled = is_zero(value)
    elif isinstance(value, tuple):
        done.memory.update({int(address) + lane: number for lane, number in enumerate(value)})
    else:
        done.memory[int(address)] = value


def _load(address: float, lanes: int, done: Outcome) -> Value:
    words = tuple(_number(done.memory.get(int(address) + lane, 0)) for lane in range(lanes))
    return words if lanes > 1 else words[0]


def _multiply(total: Value, x: Value, w: Value) -> Value:
    """One lane after the other, so that skipped zeros leave the very same sum."""
    result = _number(total)
    lanes = max(len(v) for v in (x, w, (0,)) if isinstance(v, tuple))
    for one, other in zip(_spread(x, lanes), _spread(w, lanes), strict=True):
        result += one * other
    return result


def _spread(value: Value, lanes: int) -> tuple[float, ...]:
    """A register lane by lane; one that was cleared is zero in all of them."""
    return value if isinstance(value, tuple) else (value,) * lanes


def _set(held: list[Value], register: int, value: Value) -> None:
    if register:
        held[register] = value


def _number(value: Value) -> float:
    assert not isinstance(value, tuple), "a register of several lanes is no number"
    return value
