"""eICU demo: lab results of about 2,500 intensive-care stays of many American hospitals (Pollard et al. 2018), open to all.

Layout of the original download, of which two tables are read, gzipped or not:

    patient.csv.gz    one row a stay in a unit
    lab.csv.gz        lab results, in minutes from admission to the unit

The source has times of day and minutes between events, but no dates. Dates here are invented: the hospital stays of a person begin on
the first of January of consecutive years, so that they never overlap. Differences within a hospital stay are the source's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assets.access import Access
from assets.dataset import LAB_COLUMNS, Dataset, DatasetError, Download, Source
from assets.splits import FOLDS, fold_of, folds_of, patient
from assets.tables import read_table, read_table_parts, some, write_table

if TYPE_CHECKING:
    import pandas as pd

FIRST_YEAR = 2001
"""Of the invented dates."""

_STAY_COLUMNS = (
    "patientunitstayid", "patienthealthsystemstayid", "uniquepid", "gender", "age", "hospitalid", "unittype", "hospitaladmittime24",
    "hospitaladmitoffset", "unitdischargeoffset", "unitdischargestatus",
)  # fmt: skip
_LAB_COLUMNS = ("patientunitstayid", "labresultoffset", "labname", "labresult", "labmeasurenamesystem")
_REMEDY = "set the dataset's folder to the one that holds patient.csv.gz and lab.csv.gz, or download it"
_TIME_OF_DAY = r"[0-2][0-9]:[0-5][0-9]:[0-5][0-9]"
_MINUTES = r"-?[0-9]{1,8}"
_OVER_89 = "> 89"


class EICUDemo(Dataset):
    """The eICU demo as downloaded; a record is a stay in an intensive-care unit."""

    name: ClassVar[str] = "eicu_demo"
    source: ClassVar[Source] = Source(
        title="eICU Collaborative Research Database, demo",
        version="2.0.1",
        homepage="https://physionet.org/content/eicu-crd-demo/2.0.1/",
        licence="ODbL 1.0",
        terms="Free to download from PhysioNet without an account.",
        citation="Pollard et al., The eICU Collaborative Research Database, Sci Data 5:180178 (2018), doi:10.1038/sdata.2018.178",
        download=Download(
            s3="s3://physionet-open/eicu-crd-demo/2.0.1/",
            https="https://physionet.org/files/eicu-crd-demo/2.0.1/",
            n_bytes=200_000_000,
        ),
    )
    access: ClassVar[Access] = Access.OPEN
    has_labs: ClassVar[bool] = True

    def files(self) -> list[Path]:
        """Both tables.

        Raises:
            DatasetError: one of them is missing.
        """
        paths = [self._table(name) for name in ("lab", "patient")]
        if missing := [path for path in paths if not path.is_file()]:
            raise DatasetError(f"{missing[0]} is missing; {_REMEDY}")
        return sorted(path.relative_to(self.folder) for path in paths)

    def records(self) -> pd.DataFrame:
        """One row a stay in a unit; site is the number of the hospital, acquired_at the invented time of admission to the unit.

        Raises:
            DatasetError: the table is missing or holds what cannot be read.
        """
        import pandas as pd

        stays = self._stays()
        ages = stays["age"].replace(_OVER_89, "90")
        return pd.DataFrame(
            {
                "record_id": stays["patientunitstayid"],
                "patient_id": stays["patient_id"],
                "fold": folds_of(stays["patient_id"].tolist()),
                "age": pd.to_numeric(ages.where(ages != "")).astype("float64"),
                "sex": stays["gender"].map({"Female": "female", "Male": "male"}).fillna("unknown"),
                "site": stays["hospitalid"],
                "device": "",
                "acquired_at": _iso(stays["admitted"]),
            }
        )

    def encounters(self) -> pd.DataFrame:
        """Stays in units; columns as in `Dataset.encounters`, times by the invented dates.

        Raises:
            DatasetError: the table is missing or holds what cannot be read.
        """
        import pandas as pd

        stays = self._stays()
        left = stays["admitted"] + pd.to_timedelta(stays["unitdischargeoffset"].astype("int64"), unit="min")
        return pd.DataFrame(
            {
                "encounter_id": stays["patientunitstayid"],
                "patient_id": stays["patient_id"],
                "admitted_at": _iso(stays["admitted"]),
                "discharged_at": _iso(left),
                "died_at": _iso(left).where(stays["unitdischargestatus"] == "Expired", ""),
                "kind": stays["unittype"],
            }
        )

    def labs(self) -> Iterator[pd.DataFrame]:
        """Lab results in the order of the table; item_id is the name of the test.

        Raises:
            DatasetError: the table is missing, holds what cannot be read, or a stay that is not known.
        """
        import pandas as pd

        path = self._table("lab")
        stays = self._stays()
        rows = pd.Index(stays["patientunitstayid"])
        for part in read_table_parts(path, _LAB_COLUMNS, _REMEDY):
            row_N = rows.get_indexer(pd.Index(part["patientunitstayid"]))
            if (row_N < 0).any():
                raise DatasetError(
                    f"{path}: stays {some(part.loc[row_N < 0, 'patientunitstayid'].tolist())} are not in {self._table('patient')}"
                )
            _require(path, part, "labresultoffset", _MINUTES)
            value = pd.to_numeric(part["labresult"].where(part["labresult"] != ""), errors="coerce").astype("float64")
            if (bad := value.isna() & (part["labresult"] != "")).any():
                raise DatasetError(
                    f"{path}: labresult holds what is no number: {some(part.loc[bad, 'labresult'].tolist())}; download it again"
                )
            stay = stays.iloc[row_N].reset_index(drop=True)
            minutes = pd.to_timedelta(part["labresultoffset"].astype("int64").to_numpy(), unit="min")
            columns = {
                "patient_id": stay["patient_id"].to_numpy(),
                "encounter_id": part["patientunitstayid"],
                "charted_at": _iso(stay["admitted"] + minutes).to_numpy(),
                "item_id": part["labname"],
                "value": value,
                "unit": part["labmeasurenamesystem"],
            }
            yield part.assign(**columns)[list(LAB_COLUMNS)]

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write invented stays of thirty people and their results in the original layout."""
        _write_fixture(folder, seed)

    def _table(self, name: str) -> Path:
        plain = self.folder / f"{name}.csv"
        return plain if plain.is_file() else self.folder / f"{name}.csv.gz"

    def _stays(self) -> pd.DataFrame:
        """The table of stays with patient_id and the time of admission to the unit."""
        import pandas as pd

        path = self._table("patient")
        stays = read_table(path, _STAY_COLUMNS, _REMEDY)
        if (again := stays["patientunitstayid"].duplicated()).any():
            raise DatasetError(
                f"{path}: patientunitstayid {some(stays.loc[again, 'patientunitstayid'].tolist())} stands in more than one row"
            )
        _require(path, stays, "hospitaladmittime24", _TIME_OF_DAY)
        for name in ("hospitaladmitoffset", "unitdischargeoffset"):
            _require(path, stays, name, _MINUTES)
        _require(path, stays, "age", rf"[0-9]{{1,3}}|{_OVER_89}|")
        hospital_stays = stays[["uniquepid", "patienthealthsystemstayid"]].drop_duplicates()
        number = hospital_stays.groupby("uniquepid").cumcount()
        order = dict(zip(hospital_stays["patienthealthsystemstayid"], number, strict=True))
        year = (FIRST_YEAR + stays["patienthealthsystemstayid"].map(order)).astype("str")
        arrived = pd.to_datetime(year + "-01-01T" + stays["hospitaladmittime24"], format="ISO8601").astype("datetime64[s]")
        admitted = arrived - pd.to_timedelta(stays["hospitaladmitoffset"].astype("int64"), unit="min")
        return stays.assign(patient_id="eicu:" + stays["uniquepid"], admitted=admitted)


def _require(path: Path, table: pd.DataFrame, column: str, pattern: str) -> None:
    if (bad := ~table[column].str.fullmatch(pattern)).any():
        raise DatasetError(f"{path}: {column} holds what cannot be read: {some(table.loc[bad, column].tolist())}; download it again")


def _iso(times: pd.Series) -> pd.Series:
    text: pd.Series = times.dt.strftime("%Y-%m-%dT%H:%M:%S")
    return text


def _write_fixture(folder: Path, seed: int) -> None:
    import numpy as np

    rng = np.random.default_rng(seed)
    stays: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    people: Counter[int] = Counter()
    number = 0
    while people.total() < 3 * FOLDS:
        number += 1
        pid = f"{rng.integers(2, 30):03d}-{number + 1000}"
        fold = fold_of(patient("eicu", pid))
        if people[fold] == 3:
            continue
        people[fold] += 1
        for unit in range(1 + number % 2):
            stay = 141_000 + 10 * number + unit
            stays.append(
                {
                    "patientunitstayid": stay, "patienthealthsystemstayid": 128_000 + number, "uniquepid": pid, "gender": "Female" if number % 3 else "Male",
                    "age": "> 89" if number == 4 else "" if number == 9 else int(rng.integers(18, 90)), "hospitalid": 59 + number % 4,
                    "hospitaladmittime24": f"{rng.integers(24):02d}:15:00" if unit == 0 else stays[-1]["hospitaladmittime24"],
                    "hospitaladmitoffset": -120 - 3000 * unit, "unittype": "Med-Surg ICU", "unitdischargeoffset": 2500,
                    "unitdischargestatus": "Expired" if number % 9 == 0 and unit == number % 2 else "Alive", "hospitaldischargeyear": 2015,
                }
            )  # fmt: skip
            for name, unit_name, usual in (("potassium", "mmol/L", 4.1), ("creatinine", "mg/dL", 1.0), ("troponin - I", "ng/mL", 0.02)):
                result = "" if name[0] == "t" and number % 5 == 0 else round(usual * float(rng.lognormal(0, 0.2)), 3)
                results.append(
                    {
                        "labid": 10_000 + len(results), "patientunitstayid": stay, "labresultoffset": int(rng.integers(-300, 2400)), "labname": name,
                        "labresult": result, "labresulttext": result or "<0.02", "labmeasurenamesystem": unit_name,
                    }
                )  # fmt: skip
    write_table(folder / "patient.csv.gz", (*_STAY_COLUMNS, "hospitaldischargeyear"), stays)
    write_table(folder / "lab.csv.gz", ("labid", *_LAB_COLUMNS, "labresulttext"), results)
