"""The XOR experiment of Symile (Saporta et al. 2024), beside what can be worked out on paper.

Run `python -m benchmarks.xor`: it writes docs/xor.md and docs/images/xor.png. `python -m benchmarks.xor --folder F` writes elsewhere.
Everything is drawn from seeds; on one thread it takes about four minutes.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.objectives.symile import information_bound, initial_log_scale, mip_scores, pairwise_loss, symile_loss

Objective = Literal["symile", "pairwise"]

WIDTH, BATCH, EPOCHS, LR, LOG_SCALE = 16, 200, 10, 0.1, -0.3
N_TRAIN, N_VALIDATION, N_TEST = 10_000, 1_000, 5_000
SEEDS = (0, 1, 2, 3, 4)
LENGTHS, SHARES = (1, 5), (0.0, 0.5, 1.0)
MANY, MANY_SEEDS, MANY_STEPS = (3, 4, 5, 6, 7, 8), (0, 1, 2), 600
STARTS = {"fixed": (LOG_SCALE, 0.1), "scale-aware": (1.0, 0.03)}
"""Of the table over m: logarithm of the scale (fixed) or scale for two modalities (scale-aware), and learning rate."""

SOLVED = 0.99
"""Accuracy from which a run counts as solved."""

MISSING, MISSING_SEEDS = 0.2, (0, 1, 2)
"""Share of rows in training that lack a variable, each on its own."""

MLP_WIDTH, MLP_HIDDEN, MLP_STEPS, MLP_BATCH, MLP_LR = 64, 128, 1500, 500, 0.003
"""Of the encoders that show how far linear ones are from the bound."""

COMMAND = "python -m benchmarks.xor"


@dataclass(frozen=True)
class Outcome:
    """A trained network: accuracy on the test set, and log(candidates) - loss there in nats (not a number for pairs)."""

    accuracy: float
    bound: float


def triples(n: int, length: int, share: float, generator: torch.Generator) -> list[Tensor]:
    """n rows of a, b and c, bits (n, D): c = a XOR b with probability `share`, else c = a; one coin a row."""
    a, b = (torch.randint(0, 2, (n, length), generator=generator).float() for _ in range(2))
    coin = torch.rand(n, 1, generator=generator) < share
    return [a, b, torch.where(coin, (a - b).abs(), a)]


def total_correlation(length: int, share: float) -> float:
    """TC(a, b, c) in nats: D ln 2 - (1 - 2^-D) H2(p)."""
    return length * math.log(2) - (1 - 0.5**length) * _entropy(share)


def best_accuracy(length: int, share: float) -> float:
    """Of any predictor of b among all 2^D vectors from a and c: p (1 - 2^-D) + 2^-D."""
    return share * (1 - 0.5**length) + 0.5**length


def _entropy(p: float) -> float:
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


class Encoders(nn.Module):
    """A map for each variable into unit vectors, linear or with one hidden layer, and the logarithm of the scale."""

    def __init__(self, lengths: Sequence[int], log_scale: float, width: int = WIDTH, hidden: int = 0) -> None:
        super().__init__()

        def build(length: int) -> nn.Module:
            if not hidden:
                return nn.Linear(length, width)
            return nn.Sequential(nn.Linear(length, hidden), nn.GELU(), nn.Linear(hidden, width))

        self.maps = nn.ModuleList(build(length) for length in lengths)
        self.log_scale = nn.Parameter(torch.tensor(log_scale))

    def forward(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return [functional.normalize(m(x), dim=1) for m, x in zip(self.maps, inputs, strict=True)]


def with_indicator(bits: Sequence[Tensor], missing: float, generator: torch.Generator) -> list[Tensor]:
    """Bits and, as one more input, whether the variable is missing: its bits are 0.5 then. As they are where none ever is."""
    if not missing:
        return list(bits)
    found = []
    for x in bits:
        gone = torch.rand(len(x), 1, generator=generator) < missing
        found.append(torch.cat([torch.where(gone, 0.5, x), gone.float()], dim=1))
    return found


def complete(bits: Sequence[Tensor], missing: float) -> list[Tensor]:
    """Bits of which none is missing, as networks read them that were trained with missing ones."""
    return [torch.cat([x, torch.zeros(len(x), 1)], dim=1) for x in bits] if missing else list(bits)


def train(objective: Objective, length: int, share: float, seed: int, missing: float = 0.0, epochs: int = EPOCHS) -> Outcome:
    """Train on one set, keep the epoch of the lowest validation loss, and test on complete rows."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    data, validation, test = (triples(n, length, share, generator) for n in (N_TRAIN, N_VALIDATION, N_TEST))
    data, validation = with_indicator(data, missing, generator), complete(validation, missing)
    network = Encoders([x.shape[1] for x in data], LOG_SCALE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=0.01)
    best: tuple[float, dict[str, Tensor]] = (math.inf, {})
    for _ in range(epochs):
        order = torch.randperm(N_TRAIN)
        for start in range(0, N_TRAIN, BATCH):
            _step(objective, network, optimizer, [x[order[start : start + BATCH]] for x in data])
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            loss = float(_loss(objective, network, validation))
        if loss < best[0]:
            best = loss, {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(best[1])
    with torch.no_grad():
        accuracy = _accuracy(objective, network, test, missing)
        return Outcome(accuracy, bound(network, complete(test, missing)) if objective == "symile" else float("nan"))


def train_mlp(length: int, share: float, seed: int) -> float:
    """The bound that encoders with a hidden layer reach, on fresh rows."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(1000 + seed)
    network = Encoders([length] * 3, math.log(1 / 0.07), MLP_WIDTH, MLP_HIDDEN)
    optimizer = torch.optim.AdamW(network.parameters(), lr=MLP_LR, weight_decay=0.01)
    for _ in range(MLP_STEPS):
        _step("symile", network, optimizer, triples(MLP_BATCH, length, share, generator))
    with torch.no_grad():
        return bound(network, triples(N_TEST, length, share, generator))


def _step(objective: Objective, network: Encoders, optimizer: torch.optim.Optimizer, inputs: Sequence[Tensor]) -> None:
    optimizer.zero_grad()
    _loss(objective, network, inputs).backward()
    optimizer.step()


def _loss(objective: Objective, network: Encoders, inputs: Sequence[Tensor]) -> Tensor:
    scale = network.log_scale.exp()
    return symile_loss(network(inputs), scale) if objective == "symile" else pairwise_loss(network(inputs), scale)[0]


def _accuracy(objective: Objective, network: Encoders, test: Sequence[Tensor], missing: float) -> float:
    """How often b is the best of all 2^D vectors; an exact tie counts by its share."""
    length = test[1].shape[1]
    every_CD = torch.tensor([[number >> k & 1 for k in range(length)] for number in range(2**length)]).float()
    a, candidates, c = network(complete([test[0], every_CD, test[2]], missing))
    scores_NC = mip_scores([a, c], candidates) if objective == "symile" else (a + c) @ candidates.T
    true_N = (test[1].long() * 2 ** torch.arange(length)).sum(dim=1)
    at_best_NC = scores_NC == scores_NC.amax(dim=1, keepdim=True)
    return float((at_best_NC[torch.arange(len(true_N)), true_N].float() / at_best_NC.sum(dim=1)).mean())


def bound(network: Encoders, inputs: Sequence[Tensor]) -> float:
    """log(candidates) - loss in nats, in batches of N_VALIDATION rows."""
    torch.manual_seed(0)
    bounds = []
    for start in range(0, len(inputs[0]), N_VALIDATION):
        embeddings = network([x[start : start + N_VALIDATION] for x in inputs])
        bounds.append(information_bound(symile_loss(embeddings, network.log_scale.exp()), "n", len(embeddings), len(embeddings[0])))
    return float(torch.stack(bounds).mean())


def train_many(n_modalities: int, start: str, seed: int) -> float:
    """m single bits of which the last is the XOR of the others: accuracy of predicting it from them."""
    value, lr = STARTS[start]
    torch.manual_seed(seed)
    log_scale = value if start == "fixed" else initial_log_scale(value, n_modalities, WIDTH)
    network = Encoders([1] * n_modalities, log_scale)
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)

    def draw(n: int) -> list[Tensor]:
        bits = torch.randint(0, 2, (n, n_modalities - 1)).float()
        return [*bits.T[:, :, None], bits.sum(dim=1, keepdim=True) % 2]

    for _ in range(MANY_STEPS):
        _step("symile", network, optimizer, draw(BATCH))
    with torch.no_grad():
        *query, truth = draw(2000)
        *parts, candidates = network([*query, torch.tensor([[0.0], [1.0]])])
        return float((mip_scores(parts, candidates).argmax(dim=1) == truth[:, 0]).float().mean())


@dataclass(frozen=True)
class Results:
    """All networks of the page: by objective, length and share; by start and m; with missing variables; the bound of an MLP."""

    grid: dict[tuple[Objective, int, float], list[Outcome]]
    many: dict[tuple[str, int], list[float]]
    missing: list[float]
    mlp_bound: float


def run() -> Results:
    """Train all networks of the page."""
    objectives: tuple[Objective, ...] = ("symile", "pairwise")
    grid: dict[tuple[Objective, int, float], list[Outcome]] = {}
    for length, share, objective in itertools.product(LENGTHS, SHARES, objectives):
        grid[objective, length, share] = found = [train(objective, length, share, seed) for seed in SEEDS]
        print(f"{objective}, D = {length}, p = {share:g}: {', '.join(f'{o.accuracy:.4f}' for o in found)}", flush=True)
    many = {}
    for start, m in itertools.product(STARTS, MANY):
        many[start, m] = [train_many(m, start, seed) for seed in MANY_SEEDS]
        print(f"{start} start, m = {m}: {', '.join(f'{v:.4f}' for v in many[start, m])}", flush=True)
    missing = [train("symile", 1, 1.0, seed, MISSING).accuracy for seed in MISSING_SEEDS]
    return Results(grid, many, missing, train_mlp(5, 0.5, 0))


def draw_figure(path: Path, results: Results) -> None:
    """Accuracies of every seed beside the closed form, and the information bound beside the total correlation."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    grid = results.grid
    blue, orange, grey, ink = "#1f5fa8", "#d9772b", "#8a8f98", "#16202e"
    figure = Figure(figsize=(10.0, 3.7), dpi=130, facecolor="white", layout="constrained")
    figure.suptitle(
        "XOR: what pairs of variables cannot tell, tuples can (five seeds)", fontsize=11, fontweight="bold", color=ink, x=0.01, ha="left"
    )
    axes = figure.subplots(1, 3)
    p = np.linspace(0, 1, 101)
    for ax, length in zip(axes[:2], reversed(LENGTHS), strict=True):
        ax.plot(p, [best_accuracy(length, v) for v in p], color=grey, linewidth=1.4, label="best possible")
        ax.axhline(0.5**length, color=grey, linewidth=1.0, linestyle=":", label="chance")
        for objective, colour, shift, name in (("symile", blue, -0.012, "Symile"), ("pairwise", orange, 0.012, "pairwise CLIP")):
            points = [(share + shift, o.accuracy) for share in SHARES for o in grid[objective, length, share]]
            ax.plot(*zip(*points, strict=True), "o", color=colour, markersize=5, alpha=0.65, markeredgewidth=0, label=name)
        ax.set(title=f"{length} bit{'s' if length > 1 else ''} a variable", ylabel="accuracy of b from a and c", ylim=(-0.04, 1.04))
    axes[0].legend(frameon=False, fontsize=8.5, loc="upper left")
    for length, colour in zip(reversed(LENGTHS), (blue, "#2d8659"), strict=True):
        axes[2].plot(p, [total_correlation(length, v) for v in p], color=colour, linewidth=1.4)
        points = [(share, o.bound) for share in SHARES for o in grid["symile", length, share]]
        axes[2].plot(*zip(*points, strict=True), "o", color=colour, markersize=5, alpha=0.65, markeredgewidth=0)
        middle = total_correlation(length, 0.5)
        axes[2].text(0.5, middle + 0.12, f"{length} bit{'s' if length > 1 else ''}", color=colour, fontsize=9, ha="center")
    axes[2].plot(0.5, results.mlp_bound, "D", color="none", markeredgecolor=blue, markersize=5.5)
    axes[2].set(title="what the loss says of it", ylabel="total correlation, nats", ylim=(0, 3.8))
    marks = [
        Line2D([], [], color=ink, linewidth=1.4, label="total correlation"),
        Line2D([], [], color=ink, marker="o", markersize=5, linestyle="", label="log(candidates) - loss"),
        Line2D([], [], color="none", marker="D", markeredgecolor=blue, markersize=5.5, label="the same, hidden layer"),
    ]
    axes[2].legend(handles=marks, frameon=False, fontsize=8.5, loc="lower center", bbox_to_anchor=(0.5, 0.19))
    for ax in axes:
        ax.set(xlabel="p, share of rows with c = a XOR b", xlim=(-0.06, 1.06))
        ax.title.set(fontsize=10, color=ink)
        ax.grid(visible=True, color="#e7e9ec", linewidth=0.7)
        ax.set_axisbelow(True)
        ax.tick_params(labelsize=9)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")


def page(results: Results) -> str:
    """The page in Markdown."""
    grid, many = results.grid, results.many
    rows = ["| D | p | Symile | pairwise CLIP | best possible | chance | bound, nats | total correlation, nats |", "|" + "---|" * 8]
    for length, share in itertools.product(LENGTHS, SHARES):
        ours, pairs = grid["symile", length, share], grid["pairwise", length, share]
        cells = [
            str(length),
            f"{share:g}",
            _range([o.accuracy for o in ours]),
            _range([o.accuracy for o in pairs]),
            f"{best_accuracy(length, share):.3f}",
            f"{0.5**length:.3f}",
            _range([o.bound for o in ours]),
            f"{total_correlation(length, share):.3f}",
        ]
        rows.append("| " + " | ".join(cells) + " |")
    many_rows = ["| m | " + " | ".join(f"{start} start" for start in STARTS) + " |", "|" + "---|" * (1 + len(STARTS))]
    for m in MANY:
        many_rows.append(f"| {m} | " + " | ".join(", ".join(f"{v:.2f}" for v in many[start, m]) for start in STARTS) + " |")
    facts = {
        "command": COMMAND,
        "table": "\n".join(rows),
        "single": "; ".join(", ".join(f"{o.accuracy:.2f}" for o in grid["pairwise", 1, share]) for share in SHARES),
        "lowest": f"{min(o.accuracy for o in grid['symile', 5, 1.0]):.3f}",
        "many": "\n".join(many_rows),
        "failed": "; ".join(
            f"m = {m} " + " and ".join(f"{_failed(many[start, m])} ({start})" for start in STARTS)
            for m in MANY
            if any(v < SOLVED for start in STARTS for v in many[start, m])
        ),
        "missing": ", ".join(f"{v:.3f}" for v in results.missing),
        "missing_share": f"{MISSING:.0%}",
        "mlp": f"{results.mlp_bound:.2f}",
        "linear": f"{np.mean([o.bound for o in grid['symile', 5, 0.5]]):.2f}",
        "n_train": f"{N_TRAIN:,}",
        "n_validation": f"{N_VALIDATION:,}",
        "n_test": f"{N_TEST:,}",
    }
    return _PAGE.format(**facts)


def _failed(accuracies: Sequence[float]) -> str:
    return f"{sum(v < SOLVED for v in accuracies)} of {len(accuracies)}"


def _range(values: Sequence[float]) -> str:
    """Mean, and lowest to highest of the seeds where they differ."""
    mean, low, high = f"{np.mean(values):.3f}", f"{min(values):.3f}", f"{max(values):.3f}"
    return mean if low == high else f"{mean} ({low} to {high})"


_PAGE = f"""# XOR: where pairs of modalities know nothing and tuples know everything

Made by `{{command}}` (`benchmarks/xor.py`), which trains every network below; the numbers of this page come from that run.

Two vectors a and b of D random bits, and c = a XOR b with probability p, else c = a, one coin a row. b is independent of a and
independent of c, so no pair with b in it says anything about b; a and c together do. Contrastive training of pairs (CLIP on
every pair of modalities) has nothing to learn b from. Symile, which compares whole tuples, has: with five bits and p = 1 the
worst of its five seeds reaches {{lowest}}.

![Accuracy of Symile and pairwise CLIP over p, for five bits and one bit, and the information bound](images/xor.png)

A linear map for each variable into {WIDTH} dimensions, unit vectors, AdamW at {LR}, {{n_train}} rows in batches of {BATCH} for {EPOCHS}
epochs, scale exp({LOG_SCALE}) at the start, negatives `n`; the epoch with the lowest loss on {{n_validation}} other rows counts. Judged on
{{n_test}} rows: which of all 2^D vectors is b, given a and c? Mean over five seeds, lowest and highest in brackets.

{{table}}

Best possible is p (1 - 2^-D) + 2^-D, chance 2^-D. The total correlation of a, b and c is D ln 2 - (1 - 2^-D) H(p), H the binary
entropy. `log(candidates) - loss` bounds it from below; it is measured on the test rows, in batches of {{n_validation}}. Both are measured
on samples, so single values may lie slightly above what is possible.

With five bits and p = 0.5 the accuracy is nearly what is possible but the bound is far below ({{linear}}): the density is then a
mixture, which linear maps do not represent. Encoders with one hidden layer of {MLP_HIDDEN} and {MLP_WIDTH} dimensions reach {{mlp}} there.

**One bit.** With D = 1 there are two candidates, and pairwise CLIP need not come out at 0.5: what noise leaves in its scores can
form a pattern of thresholds that is right for one, two or three of the four values of (a, c), hence 0.25, 0.5 or 0.75 at p = 1.
Its single accuracies for p = 0; 0.5; 1:
{{single}}. So the baseline is best read at D = 5.

**Missing values.** D = 1, p = 1, each variable missing from {{missing_share}} of the training rows on its own: 0.5 in its place and an indicator
beside it, all rows kept. On complete test rows, three seeds: {{missing}}.

## More modalities

m single bits, the last the XOR of the others; predict the last. Batches of {BATCH} fresh rows, {MANY_STEPS} steps, {len(MANY_SEEDS)} seeds each.
*fixed*: scale exp({STARTS["fixed"][0]}) at the start, learning rate {STARTS["fixed"][1]}. *scale-aware*: its logarithm starts at ((m - 2) / 2) ln {WIDTH}, since products
of m unit vectors shrink with m and width; learning rate {STARTS["scale-aware"][1]}.

{{many}}

Runs that fail: {{failed}}.
They stay at 0.5, with a bound near zero. A likely reason is that a product of so many small numbers has little gradient to start
with; the scale-aware start does not change that at m = 8. Symile is not limited to three modalities, but with eight it is no
sure thing: look at the bound, and try other seeds or more steps.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).resolve().parents[1] / "docs")
    folder: Path = parser.parse_args().folder
    torch.set_num_threads(1)
    started = time.process_time()
    results = run()
    draw_figure(folder / "images" / "xor.png", results)
    (folder / "xor.md").write_text(page(results))
    print(f"{time.process_time() - started:.0f} s of processor time")


if __name__ == "__main__":
    main()
