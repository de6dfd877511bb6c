"""Time of a training step (forward, backward, optimiser) of every preset, beside the published code where the user has a checkout.

Run `OMP_NUM_THREADS=1 python -m benchmarks.bench_steps`, on an idle machine. Tiny presets run with their own batch; presets of paper
size with a batch of 2, if weights, gradients and Adam's moments fit in `--limit-gib` and a step in `--limit-s`, and with random text
weights of their size. With `--peer melp=FOLDER more=FOLDER ...` the published code runs in the same process, at equal sizes, batch and
threads, in turns with ours; the figure is the median over rounds of the median over steps. Then both losses are asked about the
same numbers.
"""

from __future__ import annotations

import argparse
import gc
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.peer_steps import BERT_ROWS, PEERS, ROBERTA_ROWS, Peer, Step, declare_torchvision
from models.method import Method
from models.registry import create_method, get_spec
from models.types import Batch, Modality

METHODS = ("merl", "melp", "more", "symile", "ecg_jepa", "csfm")
WORDS = "sinus rhythm. left axis deviation. nonspecific st and t wave changes. possible inferior infarct, age undetermined."
SMALL_BATCH = 2
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
BYTES_A_WEIGHT = 16
"""Weight, gradient and two moments, in single precision."""

PAPER_TEXT: dict[str, dict[str, Any]] = {
    "merl": {"text_weights": None, "text_vocabulary": BERT_ROWS, "text_layers": 12, "text_heads": 12},
    "melp": {"text_weights": None, "text_vocabulary": BERT_ROWS, "text_layers": 12, "text_heads": 12},
    "more": {"text_weights": None, "text_vocabulary": ROBERTA_ROWS, "text_layers": 12, "text_heads": 12, "text_hidden": 3072},
}
"""The shape of the language models whose weights a site would supply."""


class TooSlowError(Exception):
    """A step that has not ended in the time it was given."""


@dataclass
class Row:
    """A line of the table; times in seconds."""

    method: str
    preset: str
    parameters: int
    learning: int
    batch: int
    step_s: float | None = None
    peer_s: float | None = None
    peer_parameters: int | None = None
    remark: str = ""


def build(name: str, preset: str, options: dict[str, Any], batch: int) -> Method:
    """The network of a preset, for a batch that is compared as a whole."""
    changes = options if preset.startswith("tiny") else PAPER_TEXT.get(name, {}) | {"accumulate": 1} | options
    torch.manual_seed(0)
    method = create_method(name, get_spec(name).configure(preset, **changes | {"batch_size": batch}))
    method.prepare([WORDS])
    return method.train()


def make_batch(name: str, method: Method, batch: int, full: bool) -> Batch:
    """Records with everything that the network reads; texts of usual length, or as long as it takes."""
    config, reads = method.config, get_spec(name).reads(method.config)
    texts = [f"{WORDS} {i}." + (f" {WORDS}" * 40 if full else "") for i in range(batch)]
    found = Batch(100 * torch.randn(batch, len(config.channels), config.n_samples), torch.arange(batch), group_B=torch.arange(batch))
    if Modality.TEXT in reads:
        found.texts = texts
    if Modality.IMAGE in reads:
        found.image_BHW = torch.randint(0, 256, (batch, config.image_size, config.image_size), dtype=torch.uint8)
        found.image_texts = texts if Modality.TEXT in reads else None
    if Modality.LABS in reads:
        found.labs_BP, found.labs_observed_BP = torch.rand(batch, config.n_labs), torch.rand(batch, config.n_labs) < 0.7
    return found


def step_of(method: Method, data: Batch) -> Step:
    """Forward, backward, optimiser and schedule, as training does them."""
    optimizer, schedule = method.optimizers(1000)

    def step() -> float:
        optimizer.zero_grad()
        total = method.loss(data).total
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if schedule is not None:
            schedule.step()
        method.after_step(0, 1000)
        return float(total.detach())

    return step


def measure(steps: list[Step], arguments: argparse.Namespace) -> list[float]:
    """Seconds of each step, taken in turns: the median over rounds of the median over repeats; one step first to warm up."""
    rounds, repeats, limit_s = arguments.rounds, arguments.steps, arguments.limit_s
    clock = CLOCKS[arguments.clock]
    first = [timed(step, 1, limit_s, clock) for step in steps]
    if sum(first) * rounds * repeats > 3 * limit_s:
        rounds, repeats = (3, 1) if sum(first) * 3 <= 3 * limit_s else (1, 1)
    seconds: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for place, step in enumerate(steps):
            seconds[place].append(timed(step, repeats, limit_s * repeats, clock))
    return [statistics.median(s) for s in seconds]


def timed(step: Step, repeats: int, limit_s: float, clock: Callable[[], float]) -> float:
    """Median seconds of some steps.

    Raises:
        TooSlowError: they have not ended in time.
        ArithmeticError: the loss is not finite.
    """
    seconds = []
    with alarm(limit_s):
        for _ in range(repeats):
            started = clock()
            loss = step()
            seconds.append(clock() - started)
            if loss != loss or abs(loss) == float("inf"):
                raise ArithmeticError(f"the loss is {loss}")
    return statistics.median(seconds)


@contextmanager
def alarm(limit_s: float) -> Iterator[None]:
    """Interrupt what takes longer."""

    def ring(*_: Any) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def alone(name: str, preset: str, arguments: argparse.Namespace) -> Row:
    """Our step of a preset."""
    tiny = preset.startswith("tiny")
    batch = get_spec(name).presets[preset].batch_size if tiny else SMALL_BATCH
    method = build(name, preset, {}, batch)
    row = Row(name, preset, *sizes(method), batch)
    if row.parameters * 4 + row.learning * (BYTES_A_WEIGHT - 4) > arguments.limit_gib * 2**30:
        row.remark = "not run here: too large"
        return row
    try:
        [row.step_s] = measure([step_of(method, make_batch(name, method, batch, full=False))], arguments)
    except TooSlowError:
        row.remark = f"not run here: a step takes more than {arguments.limit_s:g} s"
    return row


def beside(name: str, peer: Peer, checkout: Path, arguments: argparse.Namespace) -> Row:
    """Our step and the published code's, in turns."""
    method = build(name, peer.preset, peer.options, peer.batch)
    ours = step_of(method, make_batch(name, method, peer.batch, full=True))
    theirs, parameters = peer.build(checkout, peer.batch)
    row = Row(name, f"{peer.preset}, equal work", *sizes(method), peer.batch, peer_parameters=parameters, remark=peer.part)
    row.step_s, row.peer_s = measure([ours, theirs], arguments)
    return row


def sizes(method: Method) -> tuple[int, int]:
    """All weights, and those that learn."""
    return sum(p.numel() for p in method.parameters()), sum(p.numel() for p in method.parameters() if p.requires_grad)


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    header = ["method", "preset", "parameters", "that learn", "batch", "ms/step", "samples/s", "peer ms/step", "ratio", "remark"]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for r in rows:
        ours = [f"{1000 * r.step_s:,.1f}", f"{r.batch / r.step_s:,.1f}"] if r.step_s else ["", ""]
        theirs = [f"{1000 * r.peer_s:,.1f}", f"{r.peer_s / r.step_s:.2f}"] if r.peer_s and r.step_s else ["", ""]
        remark = r.remark + (f"; peer has {r.peer_parameters:,} parameters" if r.peer_parameters else "")
        cells = [r.method, r.preset, f"{r.parameters:,}", f"{r.learning:,}", str(r.batch), *ours, *theirs, remark]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compare_losses(name: str, losses: Callable[[Path], dict[str, tuple[float, float]]], checkout: Path) -> list[str]:
    """Lines of what both losses say of the same numbers."""
    torch.manual_seed(1)
    return [
        f"| {name} | {what} | {theirs:.7f} | {ours:.7f} | {abs(theirs - ours):.1e} |" for what, (theirs, ours) in losses(checkout).items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--presets", nargs="*", help="only these")
    parser.add_argument("--peer", nargs="*", default=[], metavar="METHOD=FOLDER", help="checkouts of the published code")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps a round")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: processor time, for a machine that others use too")
    parser.add_argument("--limit-s", type=float, default=60.0)
    parser.add_argument("--limit-gib", type=float, default=8.0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    declare_torchvision()
    checkouts = {name: Path(folder).resolve() for name, folder in (pair.split("=", 1) for pair in arguments.peer)}
    if unknown := sorted(set(checkouts) - set(PEERS)):
        parser.error(f"there is no published code of {', '.join(unknown)} here; choose {', '.join(PEERS)}")

    rows, losses = [], []
    for name in arguments.methods:
        for preset in get_spec(name).presets:
            if not arguments.presets or preset in arguments.presets:
                rows.append(alone(name, preset, arguments))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
                gc.collect()
        if name in checkouts:
            losses += compare_losses(name, PEERS[name].losses, checkouts[name])
            rows.append(beside(name, PEERS[name], checkouts[name], arguments))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
            gc.collect()
    print(f"\n{arguments.threads} thread(s), {arguments.clock} clock, torch {torch.__version__}\n\n{table(rows)}")
    if losses:
        print("\n| method | loss | peer | ours | difference |\n|---|---|---|---|---|")
        print("\n".join(losses))


if __name__ == "__main__":
    main()
