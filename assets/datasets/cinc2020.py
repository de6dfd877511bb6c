"""PhysioNet/CinC Challenge 2020: 43,101 12-lead ECGs of six sources with SNOMED CT codes (Perez Alday et al. 2020).

The training recordings of release 1.0.2, laid out as `assets.challenge` says; the Challenge of 2021 holds all of them again.
Lengths are 5 s to 30 min, so recordings become one window or many; those under 10 s are quarantined.
"""

from __future__ import annotations

from typing import ClassVar

from assets.challenge import ChallengeDataset
from assets.dataset import Download, Source


class CinC2020(ChallengeDataset):
    """The Challenge's training recordings as downloaded."""

    name: ClassVar[str] = "cinc2020"
    year: ClassVar[int] = 2020
    sites: ClassVar[tuple[str, ...]] = ("cpsc_2018", "cpsc_2018_extra", "georgia", "ptb", "ptb-xl", "st_petersburg_incart")
    source: ClassVar[Source] = Source(
        title="PhysioNet/CinC Challenge 2020",
        version="1.0.2",
        homepage="https://physionet.org/content/challenge-2020/1.0.2/",
        licence="CC BY 4.0",
        terms="Free to download from PhysioNet without an account.",
        citation="Perez Alday et al., Classification of 12-lead ECGs: the PhysioNet/Computing in Cardiology Challenge 2020, Physiol Meas 41:124003 (2020), doi:10.1088/1361-6579/abc960",
        download=Download(
            s3="s3://physionet-open/challenge-2020/1.0.2/",
            https="https://physionet.org/files/challenge-2020/1.0.2/",
            n_bytes=8_000_000_000,
        ),
    )
