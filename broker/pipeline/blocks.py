"""Blocks: the steps of a list, with conditions and blocks inside them, compiled into one function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from broker.model import Protocol as ProtocolName
from broker.pipeline.compilation import Compilation
from broker.pipeline.context import Drop, Hold, Step, Work
from broker.pipeline.shape import check_component, did_you_mean
from broker.spec import Option

BLOCK = (
    Option("when", "condition", "Only when this holds; it may also stand beside a single step.", example="PV1-2 = E"),
    Option("steps", "steps", "What is done then, in this order."),
    Option("otherwise", "steps", "What is done when it does not hold.", default=None),
)
SUBJECTS: Mapping[ProtocolName, str] = {"hl7": "HL7 messages", "dicom": "DICOM requests", "ris": "RIS events"}


@dataclass(frozen=True, slots=True)
class Block:
    """Steps that run one after the other until one of them ends what it stands in."""

    steps: tuple[Step, ...] = ()
    changes: bool = False  # whether any of them changes the subject
    ends: bool = False  # whether what stands behind them is never reached
    makes: ProtocolName | None = None  # what is worked on behind them, when one makes a new subject

    def __call__(self, work: Work) -> Drop | Hold | None:
        for step in self.steps:
            result = step(work)
            if result is not None:
                return result
        return None


NOTHING = Block()  # stands for what could not be compiled


def compile_block(items: Any, compilation: Compilation) -> Block:
    """Return the steps of a list; everything wrong with them is added to the compilation's mistakes."""
    if items is None:
        return NOTHING
    if not isinstance(items, list):
        compilation.mistakes.add("a list of steps is needed here", "begin each step with a dash")
        return NOTHING
    blocks: list[Block] = []
    for index, item in enumerate(items):
        if blocks and blocks[-1].ends and not any(block.ends for block in blocks[:-1]):
            compilation.mistakes.warn("this step is never reached", "the step before it always ends here", key=(index,))
        blocks.append(_item(item, compilation.at(index)))
        compilation = replace(compilation, protocol=blocks[-1].makes or compilation.protocol)
    steps = tuple(step for block in blocks for step in block.steps)
    made = next((index for index, block in enumerate(blocks) if block.makes), len(blocks))
    return Block(
        steps,
        any(block.changes for block in blocks[:made]),  # behind it, what is changed is new
        any(block.ends for block in blocks),
        next((block.makes for block in reversed(blocks) if block.makes), None),
    )


def nested(items: Any, compilation: Compilation) -> Block:
    """Return the steps of a list that must not be empty."""
    if items is None or items == []:
        compilation.mistakes.add("no step stands here", "add one, or remove the key")
    return _fixed(compile_block(items, compilation), compilation)


def _fixed(block: Block, compilation: Compilation) -> Block:
    """Return steps that may run or not: what the steps behind them work on must not depend on it."""
    if block.makes and block.makes != compilation.protocol:
        wrong = "a message that is built only sometimes cannot be worked on"
        compilation.mistakes.add(wrong, "put the condition on the target, and build: without one")
    return block


def _item(item: Any, compilation: Compilation) -> Block:
    if isinstance(item, Mapping) and ("steps" in item or "otherwise" in item):
        return _branches(item, compilation)
    names = [str(name) for name in item if name != "when"] if isinstance(item, Mapping) else []
    if len(names) != 1:
        compilation.mistakes.add("a step is one name with its settings, and perhaps when:", "such as - require: PID-3.1")
        return NOTHING
    block = _step(names[0], item[names[0]], compilation)
    if "when" not in item:
        return block
    _fixed(block, compilation)
    holds, (step, *_) = compilation.condition(item["when"], "when").holds, block.steps or (NOTHING,)
    return Block((lambda work: step(work) if holds(work.subject) else None,), block.changes)


def _branches(item: Mapping[str, Any], compilation: Compilation) -> Block:
    """Return a `when` with several steps, and perhaps `otherwise`."""
    beside = [name for name in item if name not in {option.name for option in BLOCK}]
    for name in beside:
        instead = f"write steps: [{{{name}: {item[name] if isinstance(item[name], str) else '…'}}}]"
        compilation.mistakes.add(f"{name} cannot stand beside steps: and otherwise:", instead, key=(str(name),))
    if "when" not in item:
        compilation.mistakes.add("a block of steps needs a condition", "add when: and the condition")
    when = compilation.condition(item.get("when"), "when")
    then = NOTHING if beside and "steps" not in item else nested(item.get("steps"), compilation.at("steps"))
    other = nested(item["otherwise"], compilation.at("otherwise")) if "otherwise" in item else NOTHING
    holds = when.holds

    def branches(work: Work) -> Drop | Hold | None:
        return then(work) if holds(work.subject) else other(work)

    return Block((branches,), then.changes or other.changes, then.ends and other.ends)


def _step(name: str, settings: Any, compilation: Compilation) -> Block:
    kind = compilation.kinds.get(name)
    if kind is None:
        compilation.mistakes.add(f"unknown step {name}", did_you_mean(name, compilation.kinds), key=(name,))
        return NOTHING
    if compilation.protocol not in kind.protocols:
        works_on = " and ".join(SUBJECTS[protocol] for protocol in kind.protocols)
        wrong = f"{name} does not work on {SUBJECTS[compilation.protocol]}"
        compilation.mistakes.add(wrong, f"it works on {works_on}", key=(name,))
        return NOTHING
    inner = compilation.at(name)
    if not check_component(kind.spec, settings, inner.mistakes):
        return NOTHING
    step = kind.compile(kind.spec.read(settings), inner)
    changes = step.changes if isinstance(step, Block) else kind.changes
    if compilation.observer:
        step = compilation.observer.step(inner.mistakes.place, name, step)
    return Block((step,), changes, kind.ends, kind.makes)
