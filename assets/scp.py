"""The 71 SCP-ECG statements of PTB-XL, and the label tables of its six tasks.

Which statement is diagnostic, form or rhythm, and its class and subclass, are the facts of PTB-XL 1.0.3
(Wagner et al. 2020, doi 10.13026/kfzx-aw45); the plain names are our own words. Tasks follow Strodthoff et al.,
"Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL" (IEEE JBHI 2020): a statement counts when it is
named, whatever its likelihood, and a record without any label of a task is left out of that task.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from assets.dataset import DatasetError
from models.errors import ConfigurationError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Statement:
    """One SCP statement.

    Attributes:
        code: as PTB-XL writes it, with a trailing "_" where it has one.
        name: plain English.
        diagnostic, form, rhythm: the groups it belongs to; at least one, sometimes two.
        superclass, subclass: the diagnostic class (one of five) and subclass (one of 23); None unless diagnostic.
    """

    code: str
    name: str
    diagnostic: bool
    form: bool
    rhythm: bool
    superclass: str | None
    subclass: str | None


_DIAGNOSTIC = """
NORM  NORM NORM normal ECG
ALMI  MI AMI anterolateral myocardial infarction
AMI   MI AMI anterior myocardial infarction
ASMI  MI AMI anteroseptal myocardial infarction
INJAL MI AMI subendocardial injury of the anterolateral wall
INJAS MI AMI subendocardial injury of the anteroseptal wall
INJLA MI AMI subendocardial injury of the lateral wall
ILMI  MI IMI inferolateral myocardial infarction
IMI   MI IMI inferior myocardial infarction
INJIL MI IMI subendocardial injury of the inferolateral wall
INJIN MI IMI subendocardial injury of the inferior wall
IPLMI MI IMI inferior, posterior and lateral myocardial infarction
IPMI  MI IMI inferior and posterior myocardial infarction
LMI   MI LMI lateral myocardial infarction
PMI   MI PMI posterior myocardial infarction
CLBBB CD CLBBB complete left bundle branch block
CRBBB CD CRBBB complete right bundle branch block
ILBBB CD ILBBB incomplete left bundle branch block
IRBBB CD IRBBB incomplete right bundle branch block
IVCD  CD IVCD unspecific intraventricular conduction disturbance
LAFB  CD LAFB/LPFB left anterior fascicular block
LPFB  CD LAFB/LPFB left posterior fascicular block
WPW   CD WPW Wolff-Parkinson-White pre-excitation
1AVB  CD _AVB first-degree atrioventricular block
2AVB  CD _AVB second-degree atrioventricular block
3AVB  CD _AVB third-degree atrioventricular block
LAO/LAE HYP LAO/LAE left atrial enlargement
LVH   HYP LVH left ventricular hypertrophy
RAO/RAE HYP RAO/RAE right atrial enlargement
RVH   HYP RVH right ventricular hypertrophy
SEHYP HYP SEHYP septal hypertrophy
ISCAL STTC ISCA ischaemic changes in anterolateral leads
ISCAN STTC ISCA ischaemic changes in anterior leads
ISCAS STTC ISCA ischaemic changes in anteroseptal leads
ISCLA STTC ISCA ischaemic changes in lateral leads
ISCIL STTC ISCI ischaemic changes in inferolateral leads
ISCIN STTC ISCI ischaemic changes in inferior leads
ISC_  STTC ISC_ unspecific ischaemic ST-T changes
NST_  STTC NST_ unspecific ST changes
ANEUR STTC STTC ST-T changes of a ventricular aneurysm
DIG   STTC STTC digitalis effect
EL    STTC STTC electrolyte disturbance or drug effect
LNGQT STTC STTC long QT interval
NDT   STTC STTC non-diagnostic T wave abnormalities
"""
"""code, superclass, subclass, name"""

_FORM = """
ABQRS abnormal QRS complex
HVOLT high QRS voltage
INVT inverted T waves
LOWT low T waves
LPR prolonged PR interval
LVOLT low QRS voltage
NT_ unspecific T wave changes
PAC atrial premature beat
PRC(S) premature beats of unknown origin
PVC ventricular premature beat
QWAVE Q waves
STD_ unspecific ST depression
STE_ unspecific ST elevation
TAB_ T wave abnormality
VCLVH voltage criteria of left ventricular hypertrophy
"""

_FORM_AND_DIAGNOSTIC = ("DIG", "LNGQT", "NDT", "NST_")

_RHYTHM = """
AFIB atrial fibrillation
AFLT atrial flutter
BIGU bigeminy
PACE artificial pacemaker rhythm
PSVT paroxysmal supraventricular tachycardia
SARRH sinus arrhythmia
SBRAD sinus bradycardia
SR sinus rhythm
STACH sinus tachycardia
SVARR supraventricular arrhythmia
SVTAC supraventricular tachycardia
TRIGU trigeminy
"""

SUPERCLASS_NAMES: Mapping[str, str] = {
    "CD": "conduction disturbance",
    "HYP": "hypertrophy",
    "MI": "myocardial infarction",
    "NORM": "normal ECG",
    "STTC": "ST or T wave change",
}

SUBCLASS_NAMES: Mapping[str, str] = {
    "AMI": "anterior myocardial infarction",
    "CLBBB": "complete left bundle branch block",
    "CRBBB": "complete right bundle branch block",
    "ILBBB": "incomplete left bundle branch block",
    "IMI": "inferior myocardial infarction",
    "IRBBB": "incomplete right bundle branch block",
    "ISCA": "ischaemic changes in anterior leads",
    "ISCI": "ischaemic changes in inferior leads",
    "ISC_": "unspecific ischaemic changes",
    "IVCD": "unspecific intraventricular conduction disturbance",
    "LAFB/LPFB": "left anterior or left posterior fascicular block",
    "LAO/LAE": "left atrial enlargement",
    "LMI": "lateral myocardial infarction",
    "LVH": "left ventricular hypertrophy",
    "NORM": "normal ECG",
    "NST_": "unspecific ST changes",
    "PMI": "posterior myocardial infarction",
    "RAO/RAE": "right atrial enlargement",
    "RVH": "right ventricular hypertrophy",
    "SEHYP": "septal hypertrophy",
    "STTC": "other ST or T wave change",
    "WPW": "Wolff-Parkinson-White pre-excitation",
    "_AVB": "atrioventricular block",
}

TASK_TITLES: Mapping[str, str] = {
    "all": "all 71 statements",
    "diag": "44 diagnostic statements",
    "sub": "23 diagnostic subclasses",
    "super": "5 diagnostic superclasses",
    "form": "19 form statements",
    "rhythm": "12 rhythm statements",
}

SUPER_SINGLE = "super_single"
"""Task of the records with exactly one diagnostic superclass (as ST-MEM and ECG-JEPA are judged), on the folds of all others."""


def _build() -> dict[str, Statement]:
    table: dict[str, Statement] = {}
    for line in _DIAGNOSTIC.strip().splitlines():
        code, superclass, subclass, name = line.split(maxsplit=3)
        table[code] = Statement(code, name, True, code in _FORM_AND_DIAGNOSTIC, False, superclass, subclass)
    for text, rhythm in ((_FORM, False), (_RHYTHM, True)):
        for line in text.strip().splitlines():
            code, name = line.split(maxsplit=1)
            table[code] = Statement(code, name, False, not rhythm, rhythm, None, None)
    return table


STATEMENTS: Mapping[str, Statement] = _build()
"""Every statement by its code."""


def label_set(codes: Collection[str], task: str, statements: Mapping[str, Statement] = STATEMENTS) -> set[str]:
    """The classes of a task that the statements of one record stand for.

    Raises:
        ConfigurationError: no such task.
        KeyError: a code that `statements` does not have.
    """
    chosen = [statements[code] for code in codes]
    match task:
        case "all":
            return {s.code for s in chosen}
        case "diag":
            return {s.code for s in chosen if s.diagnostic}
        case "sub":
            return {s.subclass for s in chosen if s.diagnostic and s.subclass}
        case "super":
            return {s.superclass for s in chosen if s.diagnostic and s.superclass}
        case "super_single":
            found = label_set(codes, "super", statements)
            return found if len(found) == 1 else set()
        case "form":
            return {s.code for s in chosen if s.form}
        case "rhythm":
            return {s.code for s in chosen if s.rhythm}
        case _:
            raise ConfigurationError(f"there is no task {task!r}; choose one of {', '.join(TASK_TITLES)}")


def task_classes(task: str, statements: Mapping[str, Statement] = STATEMENTS) -> tuple[str, ...]:
    """All classes of a task, sorted by name, whether or not any record has them.

    Raises:
        ConfigurationError: no such task.
    """
    return tuple(sorted(label_set(tuple(statements), "super" if task == SUPER_SINGLE else task, statements)))


def class_names(task: str, statements: Mapping[str, Statement] = STATEMENTS) -> dict[str, str]:
    """Plain English name of each class of a task; a class without one of its own keeps its code.

    Raises:
        ConfigurationError: no such task.
    """
    names = {"super": SUPERCLASS_NAMES, SUPER_SINGLE: SUPERCLASS_NAMES, "sub": SUBCLASS_NAMES}.get(task)
    if names is None:
        names = {code: s.name for code, s in statements.items()}
    return {c: names.get(c, c) for c in task_classes(task, statements)}


def refuse_unknown(codes_by_record: Mapping[str, Collection[str]], statements: Mapping[str, Statement] = STATEMENTS) -> None:
    """Make sure that records have no other codes than those of `statements`.

    Raises:
        DatasetError: one has; names codes and records.
    """
    unknown: dict[str, list[str]] = {}
    for record_id, codes in codes_by_record.items():
        for code in codes:
            if code not in statements:
                unknown.setdefault(code, []).append(record_id)
    if unknown:
        found = "; ".join(f"{code!r} in {', '.join(ids[:5])}{' ...' if len(ids) > 5 else ''}" for code, ids in sorted(unknown.items()))
        raise DatasetError(f"unknown SCP statements: {found}; add them to the statement table or correct the records")


def label_table(
    codes_by_record: Mapping[str, Collection[str]], task: str, statements: Mapping[str, Statement] = STATEMENTS
) -> pd.DataFrame:
    """Zeros and ones for one task: record_id, then one int8 column per class, sorted by name.

    Every class of the task has a column. Records without any label of the task are left out; the others keep their order.

    Raises:
        ConfigurationError: no such task.
        DatasetError: a record has a code that `statements` does not have; names codes and records.
    """
    import numpy as np
    import pandas as pd

    classes = task_classes(task, statements)
    refuse_unknown(codes_by_record, statements)
    column = {c: i for i, c in enumerate(classes)}
    record_ids: list[str] = []
    rows: list[int] = []
    columns: list[int] = []
    for record_id, codes in codes_by_record.items():
        labels = label_set(codes, task, statements)
        if labels:
            rows += [len(record_ids)] * len(labels)
            columns += [column[c] for c in labels]
            record_ids.append(record_id)
    labels_NC = np.zeros((len(record_ids), len(classes)), np.int8)
    labels_NC[rows, columns] = 1
    table = pd.DataFrame(labels_NC, columns=list(classes))
    table.insert(0, "record_id", pd.Series(record_ids, dtype=str))
    return table
