"""Labels of the Shaoxing and Ningbo recordings: its acronyms, and the 38 classes that MERL made of them.

Acronyms and codes are those of the database's own `ConditionNames_SNOMED-CT.csv` (Zheng et al., doi 10.13026/wgex-er52). Where that
table gives several acronyms to one code, the first counts, as in MERL's label files, whose 23,026 rows were all made so. The plain
names are our own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

CONDITIONS: Mapping[str, tuple[str, str]] = {
    "270492004": ("1AVB", "first-degree atrioventricular block"),
    "195042002": ("2AVB", "second-degree atrioventricular block"),
    "54016002": ("2AVB1", "second-degree atrioventricular block, type 1"),
    "28189009": ("2AVB2", "second-degree atrioventricular block, type 2"),
    "27885002": ("3AVB", "third-degree atrioventricular block"),
    "251173003": ("ABI", "atrial bigeminy"),
    "39732003": ("ALS", "left axis deviation"),
    "284470004": ("APB", "atrial premature beats"),
    "164917005": ("AQW", "abnormal Q wave"),
    "47665007": ("ARS", "right axis deviation"),
    "233917008": ("AVB", "atrioventricular block"),
    "251199005": ("CCR", "counterclockwise rotation"),
    "251198002": ("CR", "clockwise rotation"),
    "428417006": ("ERV", "early repolarisation of the ventricles"),
    "164942001": ("FQRS", "fragmented QRS complex"),
    "698252002": ("IDC", "intraventricular conduction difference"),
    "426995002": ("JEB", "junctional escape beat"),
    "251164006": ("JPT", "junctional premature beat"),
    "164909002": ("LBBB", "left bundle branch block"),
    "164873001": ("LVH", "left ventricular hypertrophy"),
    "251146004": ("LVQRSAL", "low QRS voltage in all leads"),
    "251148003": ("LVQRSCL", "low QRS voltage in chest leads"),
    "251147008": ("LVQRSLL", "low QRS voltage in limb leads"),
    "164865005": ("MI", "myocardial infarction"),
    "164947007": ("PRIE", "prolonged PR interval"),
    "164912004": ("PWC", "P wave change"),
    "111975006": ("QTIE", "prolonged QT interval"),
    "446358003": ("RAH", "right atrial hypertrophy"),
    "59118001": ("RBBB", "right bundle branch block"),
    "89792004": ("RVH", "right ventricular hypertrophy"),
    "429622005": ("STDD", "ST segment depression"),
    "164930006": ("STE", "ST segment extension"),
    "428750005": ("STTC", "ST-T change"),
    "164931005": ("STTU", "ST segment elevation"),
    "164934002": ("TWC", "T wave change"),
    "59931005": ("TWO", "T wave inversion"),
    "164937009": ("UW", "U wave"),
    "11157007": ("VB", "ventricular bigeminy"),
    "75532003": ("VEB", "ventricular escape beat"),
    "13640000": ("VFW", "ventricular fusion beat"),
    "17338001": ("VPB", "ventricular premature beat"),
    "195060002": ("VPE", "ventricular pre-excitation"),
    "251180001": ("VET", "ventricular escape trigeminy"),
    "195101003": ("WAVN", "wandering pacemaker in the atrioventricular node"),
    "74390002": ("WPW", "Wolff-Parkinson-White pattern"),
    "426177001": ("SB", "sinus bradycardia"),
    "426783006": ("SR", "sinus rhythm"),
    "164889003": ("AFIB", "atrial fibrillation"),
    "427084000": ("ST", "sinus tachycardia"),
    "164890007": ("AF", "atrial flutter"),
    "427393009": ("SA", "sinus arrhythmia"),
    "426761007": ("SVT", "supraventricular tachycardia"),
    "713422000": ("AT", "atrial tachycardia"),
    "233896004": ("AVNRT", "atrioventricular node re-entrant tachycardia"),
    "233897008": ("AVRT", "atrioventricular re-entrant tachycardia"),
}
"""SNOMED CT code to acronym and name. The recordings have some forty more codes, which this table of theirs does not name."""

_CSN = """
AQW UW SR WPW 2AVB AT VB ARS STTC SA STE VPB TWO STTU ALS APB 2AVB1 PRIE CCR CR AF AVB QTIE LBBB VEB SVT RBBB 1AVB STDD MI AFIB TWC PWC
ERV RVH LVH ST JEB
"""

CSN_CLASSES = tuple(_CSN.split())
"""MERL's classes in MERL's order. Sinus bradycardia, the most frequent diagnosis, is none of them."""

_NAMES = dict(CONDITIONS.values())
CSN_NAMES: Mapping[str, str] = {c: _NAMES[c] for c in CSN_CLASSES}


def csn_classes(codes: Sequence[str], *, published: bool) -> frozenset[str] | None:
    """MERL's classes of a recording; None where MERL leaves it out: a code has no acronym, or no class remains.

    Args:
        codes: SNOMED CT codes of its header.
        published: whether a class counts as soon as its letters stand in an acronym, as MERL's files have it: 3AVB is AVB
            and VB then, STDD is ST, and AFIB is AF. Else acronyms must be equal.
    """
    if not all(code in CONDITIONS for code in codes):
        return None
    acronyms = {CONDITIONS[code][0] for code in codes}
    found = {c for c in CSN_CLASSES if any(c in a for a in acronyms)} if published else acronyms & set(CSN_CLASSES)
    return frozenset(found) or None
