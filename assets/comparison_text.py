"""A comparison of two entries in words, and as a LaTeX table."""

from __future__ import annotations

from assets.comparison import Comparison, Contender
from models.metrics.paired_seeds import Estimate

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
}  # fmt: skip


def rows_of(c: Comparison) -> list[tuple[str, str, str]]:
    """What, macro AUROC with its interval, and seeds with their spread."""
    found = c.found
    return [
        (c.first.label, interval(found.first), seeds(c.first, found.first_spread)),
        (c.second.label, interval(found.second), seeds(c.second, found.second_spread)),
        ("difference", interval(found.difference, signed=True), ""),
    ]


def class_rows(c: Comparison) -> list[tuple[str, str]]:
    """The difference of every class, largest first."""
    pairs = sorted(zip(c.classes, c.found.per_class, strict=True), key=lambda pair: -pair[1].value)
    return [(name, interval(estimate, signed=True)) for name, estimate in pairs]


def explained(c: Comparison) -> str:
    """How the numbers were made, in one paragraph."""
    strata = ", scarce groups of patients by strata" if c.found.conditioning == "stratified" else ""
    left = f" {c.n_left_out} classes without both outcomes are left out." if c.n_left_out else ""
    unstated = [x.label for x in (c.first, c.second) if x.protocol == "not_stated"]
    unsaid = f" How {' and '.join(unstated)} came about is not stated." if unstated else ""
    return (
        f"Macro AUROC over {len(c.classes)} classes of task {c.first.task}, {_terms(c)}, on {c.n_records:,} test records of {c.found.n_patients:,} "
        f"patients. Each of {c.n_resamples:,} resamples draws patients with replacement, every class present{strata}; on each, an entry's value is "
        f"the mean over its seeds, and the difference is taken between these means. In brackets: 2.5th and 97.5th percentile. The spread "
        f"behind the seeds is the standard deviation over training runs, another quantity.{left}{unsaid}"
    )


def to_latex(c: Comparison, per_class: bool = False) -> str:
    """A table for the packages booktabs and table environments as they are; `\\usepackage{booktabs}` is all it needs."""
    body = [" & ".join(map(_escaped, row)) + r" \\" for row in rows_of(c)]
    lines = [
        r"\begin{table}",
        r"\centering",
        r"\caption{" + _escaped(explained(c)) + "}",
        r"\begin{tabular}{lll}",
        r"\toprule",
        r"entry & macro AUROC [95\,\%] & seeds \\",
        r"\midrule",
        *body[:2],
        r"\midrule",
        body[2],
    ]
    if per_class:
        lines += [r"\midrule", *(f"{_escaped(name)} & {_escaped(value)} & \\\\" for name, value in class_rows(c))]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def interval(e: Estimate, signed: bool = False) -> str:
    """A value with its interval."""
    form = "+.4f" if signed else ".4f"
    return f"{e.value:{form}} [{e.low:{form}}, {e.high:{form}}]"


def seeds(c: Contender, spread: float) -> str:
    """How many seeds, and how much the metric varies over them."""
    return f"{len(c.tables)}" + ("" if spread != spread else f" (sd {spread:.4f})")


def _terms(c: Comparison) -> str:
    stated = [x for x in (c.first, c.second) if x.protocol != "not_stated"]
    return stated[0].terms.replace("_", " ") if stated else "protocol not stated"


def _escaped(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in text)
