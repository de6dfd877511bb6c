"""PhysioNet/CinC Challenge 2021: 88,253 12-lead ECGs of eight sources with SNOMED CT codes (Reyna et al. 2021).

The training recordings of release 1.0.3, laid out as `assets.challenge` says. Validation and test recordings were never
published. Lengths are 5 s to 30 min, so recordings become one window or many; those under 10 s are quarantined.
"""

from __future__ import annotations

from typing import ClassVar

from assets.challenge import ChallengeDataset
from assets.dataset import Download, Source


class CinC2021(ChallengeDataset):
    """The Challenge's training recordings as downloaded."""

    name: ClassVar[str] = "cinc2021"
    year: ClassVar[int] = 2021
    sites: ClassVar[tuple[str, ...]] = (
        "chapman_shaoxing", "cpsc_2018", "cpsc_2018_extra", "georgia", "ningbo", "ptb", "ptb-xl", "st_petersburg_incart",
    )  # fmt: skip
    source: ClassVar[Source] = Source(
        title="PhysioNet/CinC Challenge 2021",
        version="1.0.3",
        homepage="https://physionet.org/content/challenge-2021/1.0.3/",
        licence="CC BY 4.0",
        terms="Free to download from PhysioNet without an account.",
        citation="Reyna et al., Will Two Do? Varying Dimensions in Electrocardiography: The PhysioNet/Computing in Cardiology Challenge 2021, Computing in Cardiology 48 (2021), doi:10.23919/CinC53138.2021.9662687",
        download=Download(
            s3="s3://physionet-open/challenge-2021/1.0.3/",
            https="https://physionet.org/files/challenge-2021/1.0.3/",
            n_bytes=13_500_000_000,
        ),
    )
