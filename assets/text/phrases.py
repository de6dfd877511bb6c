"""Report sentences for simulated ECGs: several wordings a finding, in English and German, with the slips of real reports."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from numpy.random import Generator

PHRASES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "en": {
        "SR": ("sinus rhythm", "regular sinus rhythm", "normal sinus rhythm"),
        "SBRAD": ("sinus bradycardia", "slow sinus rhythm, bradycardia", "marked sinus bradycardia"),
        "STACH": ("sinus tachycardia", "fast regular sinus rhythm, tachycardia", "sinus tachycardia at rest"),
        "SARRH": ("sinus arrhythmia", "sinus rhythm with respiratory arrhythmia", "irregular sinus rhythm"),
        "AFIB": ("atrial fibrillation", "atrial fibrillation, irregular ventricular response", "no p waves, atrial fibrillation"),
        "AFLT": ("atrial flutter", "atrial flutter with saw-tooth waves", "flutter waves in inferior leads"),
        "PACE": ("ventricular pacemaker rhythm", "paced rhythm with pacing spikes", "electronic pacemaker, ventricular capture"),
        "BIGU": ("ventricular bigeminy", "bigeminal pattern", "ventricular premature beats in bigeminy"),
        "PVC": ("ventricular premature beats", "single ventricular ectopic beats", "premature ventricular contraction(s)"),
        "PAC": ("atrial premature beats", "isolated supraventricular ectopic beats", "premature atrial contraction(s)"),
        "NORM": ("normal ecg", "within normal limits", "otherwise normal ecg", "no definite pathology"),
        "AMI": ("anterior myocardial infarction", "old anterior infarct, q waves in v1-4", "anterior infarction of uncertain age"),
        "ASMI": (
            "anteroseptal myocardial infarction",
            "qs complexes in v1-v3, old anteroseptal infarct",
            "probable anteroseptal infarction",
        ),
        "IMI": ("inferior myocardial infarction", "q waves in iii and avf, old inferior infarct", "inferior infarction of uncertain age"),
        "CLBBB": ("left bundle branch block", "complete left bundle branch block", "wide qrs, lbbb"),
        "CRBBB": ("right bundle branch block", "complete right bundle branch block", "rsr pattern in v1, rbbb"),
        "IRBBB": ("incomplete right bundle branch block", "partial right bundle branch block", "rsr in v1, qrs not widened"),
        "LAFB": ("left anterior fascicular block", "left anterior hemiblock", "marked left axis deviation, left anterior hemiblock"),
        "1AVB": ("first degree av block", "1st degree atrioventricular block", "delayed av conduction, first degree block"),
        "LPR": ("prolonged pr interval", "pr interval is long"),
        "LVH": ("left ventricular hypertrophy", "left ventricular hypertrophy with strain", "lvh with secondary st-t changes"),
        "VCLVH": ("voltages are high in chest leads suggesting lvh", "voltage criteria for left ventricular hypertrophy"),
        "RVH": ("right ventricular hypertrophy", "tall r in v1, right ventricular hypertrophy", "right axis deviation and rvh"),
        "LAO/LAE": ("left atrial enlargement", "broad notched p waves, left atrial enlargement", "p mitrale"),
        "NDT": ("non-diagnostic t wave abnormality", "unspecific t wave changes", "t waves are biphasic, not diagnostic"),
        "NST_": ("non-specific st changes", "unspecific st segment changes", "minor non-specific st depression"),
        "ISC_": ("st-t changes consistent with ischaemia", "ischaemic st-t changes", "st depression and t inversion, ischaemia likely"),
        "LNGQT": ("prolonged qt interval", "long qt", "qt interval is prolonged"),
        "STD_": ("st depression", "st segments are depressed in v4-6"),
        "INVT": ("inverted t waves", "t waves are inverted"),
        "LOWT": ("low t waves", "t waves are flat", "t wave flattening"),
        "QWAVE": ("q waves present", "pathological q waves"),
        "ABQRS": ("abnormal qrs", "notched qrs complex"),
        "LVOLT": ("low qrs voltage", "low voltage in limb and chest leads"),
    },
    "de": {
        "SR": ("sinusrhythmus", "regelmässiger sinusrhythmus", "normofrequenter sinusrhythmus"),
        "SBRAD": ("sinusbradykardie", "bradykarder sinusrhythmus", "ausgeprägte sinusbradykardie"),
        "STACH": ("sinustachykardie", "tachykarder sinusrhythmus", "sinustachykardie in ruhe"),
        "SARRH": ("sinusarrhythmie", "respiratorische sinusarrhythmie", "unregelmässiger sinusrhythmus"),
        "AFIB": ("vorhofflimmern", "absolute arrhythmie bei vorhofflimmern", "vorhofflimmern mit unregelmässiger überleitung"),
        "AFLT": ("vorhofflattern", "vorhofflattern mit sägezahnwellen", "flatterwellen in inferioren ableitungen"),
        "PACE": ("schrittmacherrhythmus", "ventrikulärer schrittmacher", "schrittmacher-ekg mit spikes"),
        "BIGU": ("ventrikulärer bigeminus", "bigeminus", "ventrikuläre extrasystolen im bigeminus"),
        "PVC": ("ventrikuläre extrasystole(n)", "einzelne ventrikuläre extrasystolen", "ves"),
        "PAC": ("supraventrikuläre extrasystole(n)", "einzelne supraventrikuläre extrasystolen", "sves"),
        "NORM": ("normales ekg", "sonst normales ekg", "lagetyp normal, normales ekg", "unauffälliges ekg"),
        "AMI": ("vorderwandinfarkt", "anteriorer infarkt, alter unbest.", "anteriorer infarkt, wahrscheinlich alt"),
        "ASMI": ("anteroseptaler infarkt", "anteroseptaler infarkt, wahrscheinlich alt", "qs in v1-v3, anteroseptaler infarkt möglich"),
        "IMI": ("inferiorer infarkt", "hinterwandinfarkt, q in iii und avf", "inferiorer infarkt, alter unbest."),
        "CLBBB": ("linksschenkelblock", "kompletter linksschenkelblock", "vollständiger linksschenkelblock"),
        "CRBBB": ("rechtsschenkelblock", "kompletter rechtsschenkelblock", "vollständiger rechtsschenkelblock"),
        "IRBBB": ("unvollständiger rechtsschenkelblock", "inkompletter rechtsschenkelblock"),
        "LAFB": ("linksanteriorer hemiblock", "überdrehter linkstyp, linksanteriorer hemiblock"),
        "1AVB": ("av-block 1. grades", "a-v block i", "verzögerte av-überleitung, av-block 1. grades"),
        "LPR": ("pq-zeit verlängert", "verlängerte pq-zeit"),
        "LVH": ("linkshypertrophie", "linkshypertrophie mit linksbelastung", "linksventrikuläre hypertrophie"),
        "VCLVH": ("mässige amplitudenkriterien für linkshypertrophie", "hohe voltage, linkshypertrophie möglich"),
        "RVH": ("rechtshypertrophie", "rechtstyp, rechtsventrikuläre hypertrophie"),
        "LAO/LAE": ("p-sinistrocardiale", "verdacht auf p-sinistrocardiale", "vorhofbelastung links"),
        "NDT": ("unspezifisches abnormes t", "unspezifische t-veränderungen", "t biphasisch, unspezifisch"),
        "NST_": ("unspezifische st-veränderungen", "unspezifische abnorme st-senkung", "unspezifische st-senkung"),
        "ISC_": (
            "st & t abnorm, wahrscheinlich ischämie",
            "ischämische st-t-veränderungen",
            "st-senkung und t-negativierung, ischämie möglich",
        ),
        "LNGQT": ("qt-verlängerung", "qt-zeit verlängert"),
        "STD_": ("st-senkung", "st-senkung in v4-6"),
        "INVT": ("t-negativierung", "t negativ in v4-6"),
        "LOWT": ("t-abflachung", "flaches t"),
        "QWAVE": ("pathologische q-zacken", "tiefe q-zacken in iii und avf"),
        "ABQRS": ("qrs(t) abnorm", "qrs abnormal"),
        "LVOLT": ("periphere niederspannung", "niederspannung"),
    },
}
"""Wordings of each finding by language. Every code that Synthetic writes has at least one in each language."""

_ASIDE = {
    "en": ("compared with previous tracing no change", "repeat tracing suggested", "baseline artifact in v2", "unconfirmed report"),
    "de": ("unbestätigter bericht", "verlaufskontrolle empfohlen", "keine voraufnahme zum vergleich", "artefakte in v2"),
}
_OPENING = ("PACE", "AFIB", "AFLT", "BIGU", "SBRAD", "STACH", "SARRH", "SR", "PVC", "PAC")
_LEFT_UNSAID = frozenset({"LPR", "ABQRS", "QWAVE", "VCLVH"})
"""Form statements that a report often leaves to the diagnosis beside them."""


def write_report(codes: Collection[str], language: str, rng: Generator) -> str:
    """Word a report of some findings: rhythm first, then the rest; now and then an aside, capitals or a slip of the keyboard.

    Args:
        codes: SCP codes, each with a wording in `PHRASES`.
        language: "en" or "de".
        rng: source of the choices.
    """
    ordered = [c for c in _OPENING if c in codes] + sorted(c for c in codes if c not in _OPENING)
    others = len([c for c in ordered if c not in _LEFT_UNSAID])
    said = [c for c in ordered if not (c in _LEFT_UNSAID and others > 1 and rng.random() < 0.3)]
    parts = [str(rng.choice(PHRASES[language][c])) for c in said]
    if rng.random() < 0.12:
        parts.append(str(rng.choice(_ASIDE[language])))
    # German reports of PTB-XL run on without full stops, English ones have them.
    text = ". ".join(parts) + "." if language == "en" else " ".join(parts)
    fate = rng.random()
    if fate < 0.05:
        return text.upper()
    if fate < 0.12:
        return _slip(text, rng)
    if fate < 0.22:
        return text.capitalize()
    if language == "de" and fate < 0.5:
        # As in PTB-XL, where lower-casing spared the umlauts.
        return text.translate(str.maketrans("äöü", "ÄÖÜ"))
    if language == "de" and fate < 0.6:
        return text.replace("ä", "ae").replace("ö", "oe").replace("ü", "ue")
    return text


def _slip(text: str, rng: Generator) -> str:
    """Swap two neighbouring letters inside a word."""
    places = [i for i in range(1, len(text) - 2) if text[i - 1 : i + 3].isalpha()]
    if not places:
        return text
    i = int(rng.choice(places))
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :]
